"""One owner a record, where a part of the memory lies in the owner's own data folder."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg

from apex_mcp.errors import Code, Conflict
from apex_mcp.stores.record.database import translated
from apex_mcp.stores.record.index_log import IndexLog

_log = logging.getLogger(__name__)

_LOCK: LiteralString = "SELECT pg_try_advisory_lock(hashtext('apex-mcp owner'))"
# An owner that is stopping lets go in a moment.
_PATIENCE_SECONDS = 3.0
_POLL_SECONDS = 0.25
_LOOK_SECONDS = 10.0
# PostgreSQL must notice soon when an owner is gone without a word; otherwise that is up to its system, and takes hours.
_SESSION: tuple[LiteralString, ...] = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)


class Ownership:
    """Held by a session of PostgreSQL, and lost with it; made by `own_record`."""

    def __init__(self, session: psycopg.AsyncConnection) -> None:
        self._session = session
        self._lost = asyncio.Event()

    async def lost(self) -> None:
        """Return when another process may own the record: everything must be opened again, by asking for it again."""
        await self._lost.wait()

    async def watch(self) -> None:
        """Notice the end of the session."""
        try:
            while True:
                # Nobody notifies: this waits for the connection's end. The question finds one that ended without a word.
                async for _ in self._session.notifies(timeout=_LOOK_SECONDS):
                    pass
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._session.execute("SELECT 1")
        except (psycopg.Error, OSError, TimeoutError):
            _log.warning("the connection that owns the record broke")
            self._lost.set()


@asynccontextmanager
async def own_record(conninfo: str) -> AsyncGenerator[Ownership]:
    """Be the record's only owner.

    Raises:
        Conflict: another process owns it (`record_owned`).
        Unavailable: the database does not answer.
    """
    session = await _session(conninfo)
    try:
        await _lock(session)
        ownership = Ownership(session)
        watch = asyncio.create_task(ownership.watch())
        try:
            yield ownership
        finally:
            watch.cancel()
            await asyncio.wait([watch])
    finally:
        with suppress(psycopg.Error):
            await session.close()


async def take_index(index_log: IndexLog, folder: Path) -> None:
    """Name an index in `folder` as the record's, where the one in use is in another owner's data folder.

    A commit checks that name, so an owner that does not know yet that it is one no more commits nothing.
    """
    name = await index_log.index_name()
    if not await asyncio.to_thread((folder / name).exists):
        await index_log.set_index_name(f"index-{uuid4().hex[:12]}")


async def _session(conninfo: str) -> psycopg.AsyncConnection:
    with translated():
        session = await psycopg.AsyncConnection.connect(
            conninfo, autocommit=True, application_name="apex-mcp owner"
        )
        for statement in _SESSION:
            await session.execute(statement)
        return session


async def _lock(session: psycopg.AsyncConnection) -> None:
    with translated():
        for _ in range(int(_PATIENCE_SECONDS / _POLL_SECONDS)):
            row = await (await session.execute(_LOCK)).fetchone()
            if row and row[0]:
                return
            await asyncio.sleep(_POLL_SECONDS)
    raise Conflict(
        "another daemon owns this database's memory: a part of it (vector index, staged content) is in its data folder",
        code=Code.RECORD_OWNED,
        unchanged="nothing was started",
        next_step="stop that daemon (`apex-mcp stop` where it runs), or let both share the memory: set APEX_QDRANT_URL "
        "and APEX_STAGING for each of them",
        retry_after_seconds=10,
    )
