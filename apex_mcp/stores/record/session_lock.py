"""Locks that a session of PostgreSQL holds, so that among all processes of a record one at a time does a thing."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from apex_mcp.stores.record.bounded import BoundedConnection
from apex_mcp.stores.record.database import translated

Session = BoundedConnection[TupleRow]

_ANSWER_SECONDS = 10
_LETTING_GO_SECONDS = 2
_POLL_SECONDS = 0.1
# PostgreSQL must notice soon when a process is gone without a word; otherwise that is up to its system, and takes hours.
_SESSION: LiteralString = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; "
    "SET idle_session_timeout = 0"
)
_ALONE: LiteralString = "SELECT pg_try_advisory_lock(hashtext(%s))"
_SHARED: LiteralString = "SELECT pg_try_advisory_lock_shared(hashtext(%s))"
# Of two keys: what all who share must have alike, and what this one has of it.
_ALIKE: LiteralString = "SELECT pg_try_advisory_lock_shared(hashtext(%s), hashtext(%s))"
_UNLIKE: LiteralString = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid::bigint = hashtext(%s)::bigint & 4294967295
        AND objid::bigint <> hashtext(%s)::bigint & 4294967295
)
"""


class SessionLock:
    """A lock, held or not."""

    def __init__(self, session: Session, *, held: bool) -> None:
        self._session = session
        self._held = held

    def __bool__(self) -> bool:
        return self._held

    async def stands(self) -> bool:
        """Whether it is still held: it is lost with its session."""
        try:
            await self._session.execute("SELECT 1")
        except (psycopg.Error, OSError):
            self._held = False
        return self._held

    async def alike(self, what: str, mine: str) -> bool:
        """Say until this lock ends what `what` is here; whether it is the same for all others who say so.

        Of two that differ and ask at once, both may be told that they do.

        Raises:
            Unavailable: the database does not answer.
        """
        with translated():
            await self._session.execute(_ALIKE, (what, mine))
            row = await (await self._session.execute(_UNLIKE, (what, mine))).fetchone()
        return not (row and row[0])

    async def lost(self) -> None:
        """Return when it is held no more, which is noticed at once where the session's end is said."""
        while await self.stands():
            with suppress(psycopg.Error, OSError), unhurried(self._session):
                # Nobody notifies: this waits for the connection's end. The question finds one that ended without a word.
                async for _ in self._session.notifies(timeout=_ANSWER_SECONDS):
                    pass


@asynccontextmanager
async def session_lock(
    conninfo: str,
    name: str,
    *,
    shared: bool = False,
    wait_seconds: float = 0,
    poll_seconds: float = _POLL_SECONDS,
    session_name: str = "apex-mcp lock",
) -> AsyncGenerator[SessionLock]:
    """Try to hold the lock of a name, to the end of the block.

    It is asked for again and again: a query that waited for it would keep PostgreSQL from cleaning up.

    Args:
        conninfo: the database.
        name: what the lock is for.
        shared: together with others who hold it so, while nobody holds it alone.
        wait_seconds: how long it is asked for.
        poll_seconds: how often.
        session_name: what PostgreSQL shows the session as.

    Raises:
        Unavailable: the database does not answer.
    """
    session = await open_session(conninfo, session_name)
    try:
        held = await _take(session, _SHARED if shared else _ALONE, name, wait_seconds, poll_seconds)
        yield SessionLock(session, held=held)
    finally:
        try:
            # A closed session lets go too, but only in a moment.
            session.answer_seconds = _LETTING_GO_SECONDS
            with suppress(psycopg.Error):
                await session.execute("SELECT pg_advisory_unlock_all()")
        finally:
            await session.close()


async def open_session(conninfo: str, name: str) -> Session:
    """A connection in autocommit mode that may be idle for as long as it likes; whoever opens it closes it.

    It hangs up on a server that does not answer a question in time; to listen on it, be `unhurried`.

    Raises:
        Unavailable: the database does not answer.
    """
    with translated():
        session = await _connect(conninfo, name)
        session.answer_seconds = _ANSWER_SECONDS
        try:
            await session.execute(_SESSION)
        except BaseException:
            await session.close()
            raise
        return session


async def _connect(conninfo: str, name: str) -> Session:
    connecting = asyncio.create_task(Session.connect(conninfo, autocommit=True, application_name=name))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        # The driver leaves a connection open whose making is cancelled in its last moment.
        with suppress(psycopg.Error):
            await (await connecting).close()
        raise


async def _take(
    session: Session,
    query: LiteralString,
    name: str,
    wait_seconds: float,
    poll_seconds: float,
) -> bool:
    deadline = time.monotonic() + wait_seconds
    while True:
        with translated():
            row = await (await session.execute(query, (name,))).fetchone()
        if row and row[0]:
            return True
        if time.monotonic() + poll_seconds > deadline:
            return False
        await asyncio.sleep(poll_seconds)


@contextmanager
def unhurried(session: Session) -> Generator[None]:
    """While the server is listened to, and not asked, it may be silent."""
    session.answer_seconds = None
    try:
        yield
    finally:
        session.answer_seconds = _ANSWER_SECONDS
