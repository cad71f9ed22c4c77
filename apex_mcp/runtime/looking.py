"""Do the parts that are on servers answer, and how fast?"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0


async def look_at_servers(app: Any) -> list[dict[str, Any]]:
    """For each server of the user's: name, state, where it is, and how long an answer took."""
    return list(await asyncio.gather(*(_look(name, where, ask) for name, where, ask in app.servers())))


async def _look(name: str, where: str, ask: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await ask()
    except Exception as error:  # noqa: BLE001  (a server that is down is what this looks for)
        logger.info("%s does not answer: %s", name, type(error).__name__)
        return {"name": name, "state": "down", "where": where, "latency_ms": None}
    taken = round((time.monotonic() - began) * 1000, 1)
    return {"name": name, "state": "ok", "where": where, "latency_ms": taken}
