"""Connections to PostgreSQL: one pool, and the one place where the driver's errors become ours."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from apex_mcp.errors import ApexError, Code, Invariant, Unavailable
from apex_mcp.stores.record.address import crowded
from apex_mcp.stores.record.bounded import BoundedConnection, NoAnswer

Connection = AsyncConnection[DictRow]

# How long PostgreSQL may take over one statement: of a read, or of what a caller waits for ...
ANSWER_SECONDS = 30.0
# ... and of the steps and of upkeep, which may write or remove a whole book, or wait for someone who does.
LONG_SECONDS = 900.0

# For a connection of a busy pool, or of a database that is away: longer waits help nobody who asks a question.
_WAIT_SECONDS = 5.0
_OPEN_SECONDS = 20.0
_MOST_DEADLOCKS = 8

T = TypeVar("T")


@contextmanager
def translated() -> Generator[None]:
    """Turn the driver's errors into ours, the cause kept.

    Raises:
        Unavailable: the database does not answer, cannot write, or somebody else was in the way.
        Invariant: it does not take a statement of ours.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _ours(error) from error


def _ours(error: psycopg.Error) -> ApexError:
    state = error.sqlstate or ""
    match error:
        case psycopg.errors.DiskFull() | psycopg.errors.InsufficientResources():
            return Unavailable(
                "the database has no room left",
                code=Code.DISK_FULL,
                unchanged="nothing was stored",
                next_step="free space on the data folder's disk, then send the request again",
            )
        case psycopg.errors.ForeignKeyViolation():
            return _unavailable(
                "what was to be written belongs to something that is being removed", "try again", 1
            )
        case psycopg.errors.InsufficientPrivilege():
            return _unavailable(
                "the database does not give its user a right that is needed (SQLSTATE 42501)",
                "have it granted to the user of APEX_DATABASE_URL (docs/deployment.md); it is tried again by itself",
                30,
            )
        case psycopg.errors.ReadOnlySqlTransaction():
            return _unavailable(
                "the database takes no writes",
                "name the primary server in APEX_DATABASE_URL, not a replica; it is tried again by itself",
                5,
            )
        case NoAnswer():
            return _silent(f"the database does not answer: {error}")
        case psycopg.OperationalError() if crowded(error):
            return _unavailable(
                "the database takes no more connections",
                "raise PostgreSQL's max_connections, or run fewer processes; it is tried again by itself",
                5,
            )
        case psycopg.errors.LockNotAvailable():
            return _unavailable("a long read or write was in the way", "try again when it is over", 30)
        case psycopg.OperationalError() if state.startswith("40"):
            return _unavailable("two writes were in each other's way", "try again", 1)
        case psycopg.OperationalError():
            return _silent("the database does not answer")
        case _:
            # Without what the server says, which quotes values.
            return Invariant(
                "the database did not take a statement of ours" + (f" (SQLSTATE {state})" if state else ""),
                unchanged="nothing was stored",
                next_step="report it with this code; what was accepted before stays accepted",
                details={"sqlstate": state, "constraint": error.diag.constraint_name},
            )


def _unavailable(what: str, next_step: str, retry_after_seconds: float) -> Unavailable:
    return Unavailable(
        what,
        code=Code.RECORD_UNAVAILABLE,
        unchanged="nothing was stored",
        next_step=next_step,
        retry_after_seconds=retry_after_seconds,
    )


def _silent(what: str) -> Unavailable:
    return Unavailable(
        what,
        code=Code.RECORD_UNAVAILABLE,
        # A connection that breaks during a commit leaves open how it ended.
        unchanged="what was asked may have been done or not, and asking again is safe",
        next_step="try again in a few seconds; `apex-mcp doctor` shows what is wrong",
        retry_after_seconds=2,
    )


def _honour_cancellation() -> None:
    """Raise a cancellation that the pool swallowed.

    It waits for a connection by `asyncio.wait_for`, which before Python 3.12 loses one that comes together with the connection.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Database:
    """A pool of connections in autocommit mode. A connection whose server does not answer in time is thrown away.

    Args:
        conninfo: how to connect.
        max_size: so many connections at most.
        answer_seconds: how long one statement may take, where its caller does not say.
    """

    def __init__(self, conninfo: str, *, max_size: int = 12, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.conninfo = conninfo
        self._answer_seconds = answer_seconds
        self._pool: AsyncConnectionPool[BoundedConnection[DictRow]] = AsyncConnectionPool(
            conninfo,
            connection_class=BoundedConnection[DictRow],
            kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "apex-mcp"},
            min_size=2,
            max_size=max_size,
            timeout=_WAIT_SECONDS,
            # The pauses between attempts double for so long; then the next request begins anew. By default they would grow to
            # minutes, which nobody waits for when the database is back.
            reconnect_timeout=_WAIT_SECONDS,
            max_idle=300,
            configure=self._bound,
            open=False,
        )

    async def open(self) -> None:
        """Open the first connections.

        Raises:
            Unavailable: the database does not answer.
        """
        with translated():
            await self._pool.open(wait=True, timeout=_OPEN_SECONDS)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self, *, answer_seconds: float | None = None) -> AsyncGenerator[Connection]:
        """A connection in autocommit mode.

        Args:
            answer_seconds: how long each statement may take, where that is not as for a read.

        Raises:
            Unavailable: the database does not answer, or not in time.
        """
        with translated():
            async with self._pool.connection() as connection:
                _honour_cancellation()
                connection.answer_seconds = answer_seconds or self._answer_seconds
                try:
                    yield connection
                finally:
                    connection.answer_seconds = self._answer_seconds

    @asynccontextmanager
    async def transaction(self, *, answer_seconds: float | None = None) -> AsyncGenerator[Connection]:
        """A read-write transaction (READ COMMITTED), committed when the block ends well; see `connection`."""
        async with (
            self.connection(answer_seconds=answer_seconds) as connection,
            connection.transaction(),
        ):
            yield connection

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do the work in a read-write transaction, again where another one stood in its way as it stood in that one's."""
        for _ in range(_MOST_DEADLOCKS):
            try:
                async with self.transaction(answer_seconds=LONG_SECONDS) as connection:
                    return await work(connection)
            except Unavailable as error:
                if not isinstance(error.__cause__, psycopg.errors.DeadlockDetected):
                    raise
            await asyncio.sleep(random.uniform(0.01, 0.1))
        async with self.transaction(answer_seconds=LONG_SECONDS) as connection:
            return await work(connection)

    @asynccontextmanager
    async def snapshot(self, *, answer_seconds: float | None = None) -> AsyncGenerator[Connection]:
        """A read-only snapshot: every query in it sees the same state; see `connection`."""
        async with self.connection(answer_seconds=answer_seconds) as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield connection
            finally:
                await connection.rollback()

    async def fetch_all(
        self, query: str, params: Any = None, *, answer_seconds: float | None = None
    ) -> list[dict[str, Any]]:
        """Rows of one query."""
        async with self.connection(answer_seconds=answer_seconds) as connection:
            return await (await connection.execute(query, params)).fetchall()  # pyright: ignore[reportArgumentType]

    async def fetch_one(
        self, query: str, params: Any = None, *, answer_seconds: float | None = None
    ) -> dict[str, Any] | None:
        """The first row of one query, or None."""
        async with self.connection(answer_seconds=answer_seconds) as connection:
            return await (await connection.execute(query, params)).fetchone()  # pyright: ignore[reportArgumentType]

    async def _bound(self, connection: BoundedConnection[DictRow]) -> None:
        connection.answer_seconds = self._answer_seconds
