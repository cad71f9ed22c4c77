"""Locks that a session of PostgreSQL holds, so that among all processes of a record one at a time does a thing."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import LiteralString

import psycopg

from apex_mcp.stores.record.database import translated

_ANSWER_SECONDS = 10
_POLL_SECONDS = 0.1
# PostgreSQL must notice soon when a process is gone without a word; otherwise that is up to its system, and takes hours.
_SESSION: tuple[LiteralString, ...] = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
    "SET idle_session_timeout = 0",
)


class SessionLock:
    """A lock, held or not."""

    def __init__(self, session: psycopg.AsyncConnection, *, held: bool) -> None:
        self._session = session
        self._held = held

    def __bool__(self) -> bool:
        return self._held

    async def stands(self) -> bool:
        """Whether it is still held: it is lost with its session."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._session.execute("SELECT 1")
        except (psycopg.Error, TimeoutError):
            self._held = False
        return self._held


@asynccontextmanager
async def session_lock(conninfo: str, name: str, *, wait_seconds: float = 0) -> AsyncGenerator[SessionLock]:
    """Try to hold the lock of a name, to the end of the block.

    Raises:
        Unavailable: the database does not answer.
    """
    session = await _open(conninfo)
    try:
        yield SessionLock(session, held=await _take(session, name, wait_seconds))
    finally:
        with suppress(psycopg.Error):
            await session.close()


async def _open(conninfo: str) -> psycopg.AsyncConnection:
    with translated():
        session = await psycopg.AsyncConnection.connect(
            conninfo, autocommit=True, application_name="apex-mcp lock"
        )
        try:
            for statement in _SESSION:
                await session.execute(statement)
        except BaseException:
            await session.close()
            raise
        return session


async def _take(session: psycopg.AsyncConnection, name: str, wait_seconds: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(wait_seconds, _ANSWER_SECONDS)):
            for _ in range(1 + int(wait_seconds / _POLL_SECONDS)):
                with translated():
                    row = await (
                        await session.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (name,))
                    ).fetchone()
                if row and row[0]:
                    return True
                if wait_seconds:
                    await asyncio.sleep(_POLL_SECONDS)
    return False
