"""Connections to Redis, and the one place where its errors end: losing it costs speed only, so none leaves."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast
from uuid import UUID

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.health import Health

NAME = "redis"
_CONNECTIONS = 32
# What is cached is had again in milliseconds, or for a fraction of a cent: nothing waits long for it.
_TIMEOUT_SECONDS = 0.5

T = TypeVar("T")


class RedisClient:
    """Redis, shared by several memories: each has keys of its own.

    Args:
        url: `redis://` or `rediss://`, with user and password where it needs them.
        record_id: of the memory.
        health: what its condition is told to.

    Raises:
        Rejected: the address is none (`settings_invalid`).
    """

    def __init__(self, url: str, *, record_id: UUID, health: Health) -> None:
        self._health = health
        self._breaker = CircuitBreaker(NAME, Code.CACHE_UNAVAILABLE, health)
        self._prefix = f"apex:{record_id.hex}:"
        try:
            pool = cast("Any", BlockingConnectionPool).from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=_TIMEOUT_SECONDS,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                # A connection that broke while nobody used it.
                retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
                client_name="apex-mcp",
            )
        except ValueError:
            # Without the cause: it may quote the address, and the password in it.
            raise Rejected(
                "APEX_REDIS_URL is not an address of a Redis",
                code=Code.SETTINGS_INVALID,
                next_step="give it as redis://[:password@]host[:port][/number], or rediss:// for TLS; "
                "escape special characters of the password with %",
            ) from None
        # The types of its methods are unknown in part.
        self.redis: Any = Redis.from_pool(pool)

    def key(self, name: str) -> str:
        """A name as the key of this memory."""
        return self._prefix + name

    async def verify(self) -> None:
        """Ask whether it is there, and note it.

        Raises:
            Unavailable: it is not, or does not let us in.
        """
        await self._ask(self.redis.ping)
        self._health.note(NAME, "ok")

    async def ask(self, call: Callable[[], Awaitable[T]], *, otherwise: T) -> T:
        """What the call answers, or `otherwise` where Redis does not."""
        try:
            return await self._ask(call)
        except Unavailable:
            return otherwise

    async def _ask(self, call: Callable[[], Awaitable[T]]) -> T:
        with self._breaker.guard():
            try:
                return await call()
            except (RedisError, OSError, TimeoutError) as error:
                raise Unavailable(
                    _said(error),
                    code=Code.CACHE_UNAVAILABLE,
                    unchanged="nothing depends on it",
                    next_step="see that it runs, and can be reached at APEX_REDIS_URL",
                ) from error

    async def close(self) -> None:
        """Close the connections."""
        try:
            await self.redis.aclose()
        except (RedisError, OSError):
            pass  # it closed them first


def _said(error: Exception) -> str:
    match error:
        case AuthenticationError() | AuthorizationError():
            why = "Redis refuses the user or the password of APEX_REDIS_URL"
        case OutOfMemoryError():
            why = "Redis has no memory left"
        case NoPermissionError():
            why = "the user of APEX_REDIS_URL may not do this in Redis"
        case _:
            why = "Redis does not answer"
    return f"{why}; everything goes on, without shared caches"
