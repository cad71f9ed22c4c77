"""Locks that a session of PostgreSQL holds, so that among all processes of a record one at a time does a thing."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import LiteralString

import psycopg

from apex_mcp.stores.record.database import translated

_ANSWER_SECONDS = 10
_LETTING_GO_SECONDS = 2
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
async def session_lock(
    conninfo: str, name: str, *, wait_seconds: float = 0, poll_seconds: float = 0.1
) -> AsyncGenerator[SessionLock]:
    """Try to hold the lock of a name, to the end of the block.

    It is asked for again and again: a query that waited for it would keep PostgreSQL from cleaning up.

    Raises:
        Unavailable: the database does not answer.
    """
    session = await _open(conninfo)
    try:
        yield SessionLock(session, held=await _take(session, name, wait_seconds, poll_seconds))
    finally:
        try:
            with suppress(psycopg.Error, TimeoutError):
                # A closed session lets go too, but only in a moment.
                async with asyncio.timeout(_LETTING_GO_SECONDS):
                    await session.execute("SELECT pg_advisory_unlock_all()")
        finally:
            await session.close()


async def _open(conninfo: str) -> psycopg.AsyncConnection:
    with translated():
        session = await _connect(conninfo)
        try:
            for statement in _SESSION:
                await session.execute(statement)
        except BaseException:
            await session.close()
            raise
        return session


async def _connect(conninfo: str) -> psycopg.AsyncConnection:
    connecting = asyncio.create_task(
        psycopg.AsyncConnection.connect(conninfo, autocommit=True, application_name="apex-mcp lock")
    )
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # The driver leaves a connection open whose making is cancelled in its last moment.
        with suppress(psycopg.Error):
            await (await connecting).close()
        raise


async def _take(
    session: psycopg.AsyncConnection, name: str, wait_seconds: float, poll_seconds: float
) -> bool:
    deadline = time.monotonic() + wait_seconds
    while True:
        with translated(), _unanswered():
            async with asyncio.timeout(_ANSWER_SECONDS):
                row = await (
                    await session.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (name,))
                ).fetchone()
        if row and row[0]:
            return True
        if time.monotonic() + poll_seconds > deadline:
            return False
        await asyncio.sleep(poll_seconds)


@contextmanager
def _unanswered() -> Generator[None]:
    try:
        yield
    except TimeoutError as error:
        raise psycopg.OperationalError("no answer") from error
