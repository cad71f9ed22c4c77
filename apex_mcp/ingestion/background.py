"""Work in the background that goes on whatever fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from apex_mcp.errors import Unavailable

AFTER_FAILURE_SECONDS = 2.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


async def repeat(what: str, work: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Do it again and again, with a pause after each time that did nothing."""
    while True:
        if not await guarded(what, work()):
            await asyncio.sleep(seconds)


async def guarded(what: str, work: Awaitable[T]) -> T | None:
    """Background work goes on after a failure, which the log names by `what`: the record keeps what is owed."""
    try:
        return await work
    except Unavailable as error:
        _log.warning("%s failed: %s", what, error.code)
    except Exception:  # noqa: BLE001  (the border of a background task: nobody else would hear of it)
        _log.warning("%s failed", what, exc_info=True)
    await asyncio.sleep(AFTER_FAILURE_SECONDS)
    return None
