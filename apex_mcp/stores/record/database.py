"""Connections to PostgreSQL: one pool, and the one place where the driver's errors become ours."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.record.address import crowded

Connection = AsyncConnection[DictRow]

# For a connection of a busy pool, or of a database that is away: longer waits help nobody who asks a question.
_WAIT_SECONDS = 5.0
_OPEN_SECONDS = 20.0
_MOST_DEADLOCKS = 8

T = TypeVar("T")


@contextmanager
def translated() -> Generator[None]:
    """Turn the driver's errors into `Unavailable`, the cause kept.

    Raises:
        Unavailable: the database does not answer, its disk is full, or a removal came in between.
    """
    try:
        yield
    except (psycopg.errors.DiskFull, psycopg.errors.InsufficientResources) as error:
        raise Unavailable(
            "the database has no room left",
            code=Code.DISK_FULL,
            unchanged="nothing was stored",
            next_step="free space on the data folder's disk, then send the request again",
        ) from error
    except psycopg.errors.ForeignKeyViolation as error:
        raise Unavailable(
            "what was to be written belongs to something that is being removed",
            code=Code.RECORD_UNAVAILABLE,
            unchanged="nothing was stored",
            next_step="try again",
            retry_after_seconds=1,
        ) from error
    except (psycopg.OperationalError, PoolTimeout) as error:
        if crowded(error):
            raise Unavailable(
                "the database takes no more connections",
                code=Code.RECORD_UNAVAILABLE,
                unchanged="nothing was stored",
                next_step="raise PostgreSQL's max_connections, or run fewer processes; it is tried again by itself",
                retry_after_seconds=5,
            ) from error
        raise Unavailable(
            "the database does not answer",
            code=Code.RECORD_UNAVAILABLE,
            # A connection that breaks during a commit leaves open how it ended.
            unchanged="what was asked may have been done or not, and asking again is safe",
            next_step="try again in a few seconds; `apex-mcp doctor` shows what is wrong",
            retry_after_seconds=2,
        ) from error


def _honour_cancellation() -> None:
    """Raise a cancellation that the pool swallowed.

    It waits for a connection by `asyncio.wait_for`, which before Python 3.12 loses one that comes together with the connection.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Database:
    """A pool of connections in autocommit mode."""

    def __init__(self, conninfo: str, *, max_size: int = 12) -> None:
        self.conninfo = conninfo
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            conninfo,
            connection_class=AsyncConnection[DictRow],
            kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "apex-mcp"},
            min_size=2,
            max_size=max_size,
            timeout=_WAIT_SECONDS,
            # The pauses between attempts double for so long; then the next request begins anew. By default they would grow to
            # minutes, which nobody waits for when the database is back.
            reconnect_timeout=_WAIT_SECONDS,
            max_idle=300,
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
    async def connection(self) -> AsyncGenerator[Connection]:
        """A connection in autocommit mode."""
        with translated():
            async with self._pool.connection() as connection:
                _honour_cancellation()
                yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Connection]:
        """A read-write transaction (READ COMMITTED), committed when the block ends well."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def transact(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do the work in a read-write transaction, again where another one stood in its way as it stood in that one's."""
        for _ in range(_MOST_DEADLOCKS):
            try:
                async with self.transaction() as connection:
                    return await work(connection)
            except Unavailable as error:
                if not isinstance(error.__cause__, psycopg.errors.DeadlockDetected):
                    raise
            await asyncio.sleep(random.uniform(0.01, 0.1))
        async with self.transaction() as connection:
            return await work(connection)

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[Connection]:
        """A read-only snapshot: every query in it sees the same state."""
        async with self.connection() as connection:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                yield connection
            finally:
                await connection.rollback()

    async def fetch_all(self, query: str, params: Any = None) -> list[dict[str, Any]]:
        """Rows of one query."""
        async with self.connection() as connection:
            return await (await connection.execute(query, params)).fetchall()  # pyright: ignore[reportArgumentType]

    async def fetch_one(self, query: str, params: Any = None) -> dict[str, Any] | None:
        """The first row of one query, or None."""
        async with self.connection() as connection:
            return await (await connection.execute(query, params)).fetchone()  # pyright: ignore[reportArgumentType]
