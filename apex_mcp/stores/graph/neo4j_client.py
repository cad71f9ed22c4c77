"""Connections to Neo4j: one pool, and the one place where the driver's errors become ours."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, LiteralString

from neo4j import (
    READ_ACCESS,
    WRITE_ACCESS,
    AsyncDriver,
    AsyncGraphDatabase,
    AsyncSession,
    AsyncTransaction,
    NotificationMinimumSeverity,
    Query,
)
from neo4j.exceptions import AuthError, ClientError, ConfigurationError, DriverError, Neo4jError

from apex_mcp.addresses import is_url
from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.stores.breaker import CircuitBreaker

_CONNECT_SECONDS = 3.0
_READ_SECONDS = 10.0
_WRITE_SECONDS = 120.0
_POOL = 16
_SCHEMES = tuple(f"{scheme}{tls}" for scheme in ("neo4j", "bolt") for tls in ("", "+s", "+ssc"))

Row = dict[str, Any]


@contextmanager
def translated() -> Generator[None]:
    """Turn the driver's errors into ours, the cause kept.

    Raises:
        Unavailable: Neo4j does not answer.
        Rejected: it does not take the user, the password or the database that are set.
    """
    try:
        yield
    except (AuthError, ConfigurationError) as error:
        raise _refused(
            "does not take the user and password", "APEX_NEO4J_USER and APEX_NEO4J_PASSWORD"
        ) from error
    except ClientError as error:
        if "DatabaseNotFound" in (error.code or ""):
            raise _refused("has no such database", "APEX_NEO4J_DATABASE") from error
        raise _unavailable(error.code or "") from error
    except (Neo4jError, DriverError, OSError, TimeoutError) as error:
        raise _unavailable(getattr(error, "code", None) or "") from error


def _refused(what: str, settings: str) -> Rejected:
    return Rejected(f"Neo4j {what}", code=Code.SETTINGS_INVALID, next_step=f"correct {settings}")


def _unavailable(code: str) -> Unavailable:
    return Unavailable(
        "Neo4j does not answer" + (f" ({code})" if code else ""),
        code=Code.GRAPH_UNAVAILABLE,
        unchanged="the record is untouched, and the graph is brought up to date once Neo4j answers",
        next_step="try again in a few seconds; `apex-mcp doctor` shows what is wrong",
        retry_after_seconds=5,
    )


class Neo4jClient:
    """One database on a Neo4j server."""

    def __init__(self, driver: AsyncDriver, database: str, breaker: CircuitBreaker) -> None:
        self._driver = driver
        self._database = database
        self._breaker = breaker

    @classmethod
    def connect(
        cls, uri: str, *, user: str, password: str, database: str, breaker: CircuitBreaker
    ) -> "Neo4jClient":
        """A client for a server; connects when it is first used.

        Raises:
            Rejected: the address is none of Neo4j.
        """
        if not is_url(uri, _SCHEMES):
            raise _refused("has an address like neo4j://host:7687", "APEX_NEO4J_URI")
        try:
            # The driver's options are untyped keywords.
            driver = AsyncGraphDatabase.driver(  # pyright: ignore[reportUnknownMemberType]
                uri,
                auth=(user, password),
                max_connection_pool_size=_POOL,
                connection_timeout=_CONNECT_SECONDS,
                connection_acquisition_timeout=_CONNECT_SECONDS * 2,
                # A connection that was idle may have been cut by what stands between.
                liveness_check_timeout=30,
                keep_alive=True,
                telemetry_disabled=True,
                notifications_min_severity=NotificationMinimumSeverity.OFF,
                user_agent="apex-mcp",
            )
        except (ConfigurationError, ValueError) as error:
            raise _refused("has an address like neo4j://host:7687", "APEX_NEO4J_URI") from error
        return cls(driver, database, breaker)

    async def verify(self) -> None:
        """Ask whether it answers.

        Raises:
            Unavailable: it does not.
            Rejected: it does not take the user, the password or the database that are set.
        """
        await self.read("RETURN 1 AS one")

    async def read(self, query: LiteralString, **params: Any) -> list[Row]:
        """Rows of one query."""
        async with self._transaction(READ_ACCESS, _READ_SECONDS) as transaction:
            return await rows(transaction, query, **params)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncTransaction]:
        """Several queries in one transaction, each of which sees what is committed when it runs."""
        async with self._transaction(READ_ACCESS, _READ_SECONDS) as transaction:
            yield transaction

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncTransaction]:
        """A transaction, committed when the block ends well. Nothing is tried again: the caller's caller does."""
        async with self._transaction(WRITE_ACCESS, _WRITE_SECONDS) as transaction:
            yield transaction

    async def alone(self, query: LiteralString, **params: Any) -> list[Row]:
        """A statement that makes its own transactions, or changes the schema."""
        with self._breaker.guard(), translated():
            async with (
                asyncio.timeout(_WRITE_SECONDS),
                self._session(WRITE_ACCESS) as session,
            ):
                result = await session.run(Query(query), params)
                return await result.data()

    @asynccontextmanager
    async def _transaction(self, mode: str, seconds: float) -> AsyncGenerator[AsyncTransaction]:
        with self._breaker.guard(), translated():
            # The server ends a slow query itself; ours is for one that is not heard any more.
            async with (
                asyncio.timeout(seconds + _CONNECT_SECONDS),
                self._session(mode) as session,
                await session.begin_transaction(timeout=seconds) as transaction,
            ):
                yield transaction

    def _session(self, mode: str) -> AsyncSession:
        return self._driver.session(  # pyright: ignore[reportUnknownMemberType]  (untyped keywords)
            database=self._database, default_access_mode=mode
        )

    async def close(self) -> None:
        """Release the connections."""
        await self._driver.close()


async def rows(transaction: AsyncTransaction, query: LiteralString, **params: Any) -> list[Row]:
    """Rows of one query within a transaction."""
    result = await transaction.run(query, params)
    return await result.data()
