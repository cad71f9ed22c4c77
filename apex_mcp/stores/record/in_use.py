"""What some process that shares the record works with, a graph's server or a model, so that one that does not must not end it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import LiteralString

from apex_mcp.errors import ApexError, Unavailable
from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.session_lock import session_lock

GRAPH: LiteralString = "apex-mcp graph in use"
MODEL: LiteralString = "apex-mcp model in use"
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 3600.0

Step = Callable[[], Awaitable[object]]


async def use(conninfo: str, what: LiteralString, begin: Step | None = None) -> None:
    """Let the others know, until cancelled, that this process works with it.

    Args:
        conninfo: the database.
        what: names it.
        begin: done each time once nobody can end it any more: somebody may have before.
    """
    while True:
        try:
            async with session_lock(conninfo, what, shared=True, wait_seconds=float("inf")) as lock:
                if begin is not None:
                    await begin()
                await lock.lost()
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)


async def end_unused(conninfo: str, what: LiteralString, end: Step) -> bool:
    """End it if no process works with it; whoever does and starts only now begins it anew.

    Raises:
        Unavailable: the database does not answer.
    """
    async with session_lock(conninfo, what) as alone:
        if alone:
            await end()
        return bool(alone)


async def end_whenever_unused(
    conninfo: str, what: LiteralString, end: Step, *, look_seconds: float = _LOOK_SECONDS
) -> None:
    """End it, until cancelled, also when all that worked with it are gone for good: else things would wait for it for ever."""
    while True:
        await asyncio.sleep(look_seconds)
        with suppress(ApexError):
            await end_unused(conninfo, what, end)


async def set_read_by_model(database: Database, read: bool) -> None:
    """Whether what is committed from now on is to be read by a model.

    Raises:
        Unavailable: the database does not answer.
    """
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE identity SET read_by_model = %(read)s WHERE read_by_model <> %(read)s", {"read": read}
        )
