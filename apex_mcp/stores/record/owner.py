"""Who may work on a record: one owner, where a part of the memory lies in its data folder, else any number who share it."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

from apex_mcp.errors import ApexError, Code, Conflict, Rejected, Unavailable
from apex_mcp.stores.record.index_log import IndexLog
from apex_mcp.stores.record.session_lock import SessionLock, session_lock

_log = logging.getLogger(__name__)

_OWNER: LiteralString = "apex-mcp owner"
_STAGING: LiteralString = "apex-mcp staging"
# Whoever is stopping lets go in a moment.
_PATIENCE_SECONDS = 3.0
_POLL_SECONDS = 0.25
_RETRY_SECONDS = 1.0


class Ownership:
    """Held by a session of PostgreSQL, and lost with it; made by `own_record` and `share_record`."""

    def __init__(self) -> None:
        self._lost = asyncio.Event()

    async def lost(self) -> None:
        """Return when another process may own the record: everything must be opened again, by asking for it again."""
        await self._lost.wait()

    def lose(self) -> None:
        """It is known to be lost."""
        self._lost.set()


@asynccontextmanager
async def own_record(conninfo: str) -> AsyncGenerator[Ownership]:
    """Be the only process that works on the record.

    Raises:
        Conflict: another one does (`record_owned`).
        Unavailable: the database does not answer.
    """

    async def watch(lock: SessionLock, ownership: Ownership) -> None:
        await lock.lost()
        _log.warning("the connection that owns the record broke")
        ownership.lose()

    async with _held(conninfo, shared=False) as lock:
        ownership = Ownership()
        watching = asyncio.create_task(watch(lock, ownership))
        try:
            yield ownership
        finally:
            watching.cancel()
            await asyncio.wait([watching])


@asynccontextmanager
async def share_record(conninfo: str, *, staging: str) -> AsyncGenerator[Ownership]:
    """Work on the record together with others who share it.

    With a connection that broke it is not lost yet: it is when somebody else owns the record by then.

    Args:
        conninfo: the database.
        staging: the mark of the place where this process stages content.

    Raises:
        Conflict: a process owns it (`record_owned`).
        Rejected: those who share it stage content elsewhere (`settings_invalid`).
        Unavailable: the database does not answer.
    """

    async def keep(lock: SessionLock, ownership: Ownership) -> None:
        await lock.lost()
        while True:
            try:
                async with _held(conninfo, shared=True) as again:
                    await _require_alike(again, staging)
                    await again.lost()
            except Unavailable:
                await asyncio.sleep(_RETRY_SECONDS)
            except ApexError:
                _log.warning("the record is another process's by now, or others share it with other settings")
                ownership.lose()
                return

    async with _held(conninfo, shared=True) as lock:
        await _require_alike(lock, staging)
        ownership = Ownership()
        keeping = asyncio.create_task(keep(lock, ownership))
        try:
            yield ownership
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])


async def take_index(index_log: IndexLog, folder: Path) -> None:
    """Name an index in `folder` as the record's, where the one in use is in another owner's data folder.

    A commit checks that name, so an owner that does not know yet that it is one no more commits nothing.
    """
    name = await index_log.index_name()
    if not await asyncio.to_thread((folder / name).exists):
        await index_log.set_index_name(f"index-{uuid4().hex[:12]}")


@asynccontextmanager
async def _held(conninfo: str, *, shared: bool) -> AsyncGenerator[SessionLock]:
    async with session_lock(
        conninfo,
        _OWNER,
        shared=shared,
        wait_seconds=_PATIENCE_SECONDS,
        poll_seconds=_POLL_SECONDS,
        session_name=_OWNER,
    ) as lock:
        if not lock:
            raise _refused(shared=shared)
        yield lock


async def _require_alike(lock: SessionLock, staging: str) -> None:
    if not await lock.alike(_STAGING, staging):
        raise Rejected(
            "APEX_STAGING names another place here than for the processes that work on this memory now: "
            "what one puts there, the others would miss",
            code=Code.SETTINGS_INVALID,
            unchanged="nothing was started",
            next_step="let all name the same folder or bucket; to move it, stop all of them first",
            details={"settings": ["staging"]},
        )


def _refused(*, shared: bool) -> Conflict:
    what = (
        "a daemon owns this database's memory: a part of it (vector index, staged content) is in its data folder"
        if shared
        else "another process works on this database's memory, and a part of it (vector index, staged content) would be "
        "in this data folder"
    )
    return Conflict(
        what,
        code=Code.RECORD_OWNED,
        unchanged="nothing was started",
        next_step="stop the other one (`apex-mcp stop` where a daemon runs), or let all share the memory: set "
        "APEX_QDRANT_URL and APEX_STAGING for each of them",
        retry_after_seconds=10,
    )
