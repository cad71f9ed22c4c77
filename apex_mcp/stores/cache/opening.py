"""What processes share for speed: in Redis where the settings name one, else in the process."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from apex_mcp.errors import Unavailable
from apex_mcp.settings import Settings
from apex_mcp.stores.cache.process import ProcessCache, ProcessLock, ProcessRateLimit
from apex_mcp.stores.cache.protocol import Cache, Lock, RateLimit
from apex_mcp.stores.health import Health
from apex_mcp.stores.progress import ProcessProgress, Progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Cache, locks, rate limit and news of ingestions.

    Attributes:
        verify_redis: raises where the Redis that holds all this does not answer; None where the process holds it.
    """

    cache: Cache
    lock: Lock
    rate_limit: RateLimit
    progress: Progress
    verify_redis: Callable[[], Awaitable[None]] | None


@asynccontextmanager
async def open_shared(
    settings: Settings, *, record_id: UUID, health: Health, alone: bool
) -> AsyncGenerator[Shared]:
    """Open it. A Redis that does not answer now is used as soon as it does.

    Args:
        settings: `redis_url`.
        record_id: of the memory; several may share a Redis.
        health: what Redis' condition is told to, as `redis`.
        alone: whether no other process works on the record.

    Raises:
        Rejected: the address of Redis is none (`settings_invalid`).
    """
    if settings.redis_url is None:
        cache = ProcessCache()
        yield Shared(
            cache=cache,
            lock=ProcessLock(),
            rate_limit=ProcessRateLimit(),
            progress=ProcessProgress(alone=alone),
            verify_redis=None,
        )
        await cache.close()
        return
    from apex_mcp.stores.cache.redis_cache import RedisCache, RedisLock, RedisRateLimit
    from apex_mcp.stores.cache.redis_client import RedisClient
    from apex_mcp.stores.cache.redis_progress import RedisProgress

    client = RedisClient(settings.redis_url.get_secret_value(), record_id=record_id, health=health)
    progress = RedisProgress(client)
    try:
        try:
            await client.verify()
        except Unavailable as error:
            _log.warning("redis: %s", error.message)
        yield Shared(
            cache=RedisCache(client),
            lock=RedisLock(client),
            rate_limit=RedisRateLimit(client),
            progress=progress,
            verify_redis=client.verify,
        )
    finally:
        await progress.close()
        await client.close()
