"""Work in the background that goes on whatever fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from apex_mcp.errors import Unavailable

AFTER_FAILURE_SECONDS = 2.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


async def repeat(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Do it again and again, with a pause after each time that did nothing."""
    while True:
        if not await guarded(work()):
            await asyncio.sleep(seconds)


async def guarded(work: Awaitable[T]) -> T | None:
    """Background work goes on after a failure: the record keeps what is owed."""
    try:
        return await work
    except Unavailable as error:
        _log.warning("work in the background: %s", error.code)
    except Exception:  # noqa: BLE001  (the border of a background task: nobody else would hear of it)
        _log.warning("work in the background failed", exc_info=True)
    await asyncio.sleep(AFTER_FAILURE_SECONDS)
    return None
