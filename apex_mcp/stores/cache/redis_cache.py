"""Cache, lock and rate limit of several processes, in Redis."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from apex_mcp.batches import batches
from apex_mcp.stores.cache.process import ProcessRateLimit
from apex_mcp.stores.cache.redis_client import RedisClient
from apex_mcp.stores.cache.turns import HORIZON_SECONDS, Pace, Queue, Turn

_MOST_VALUE_BYTES = 1024 * 1024
_BATCH = 256
_SCANNED = 1000

_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"

# Redis' own clock, in microseconds: those of hosts differ. See `Schedule`, of which this is the shared form.
_RESERVE = """
local interval, burst, horizon = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('time')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local due = math.max(tonumber(redis.call('get', KEYS[1]) or '0'), now)
local wait = math.max(due - burst - now, 0)
if wait > horizon then return {0, wait} end
local later = due + interval
redis.call('set', KEYS[1], string.format('%.0f', later), 'px', math.ceil((later - now) / 1000) + 1000)
return {1, wait}
"""


class RedisCache:
    """A cache that processes share. How much it holds is Redis' own setting (`maxmemory`)."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Cache`."""
        found: list[bytes | None] = []
        for some in batches(keys, _BATCH):
            full = [self._client.key(key) for key in some]
            nothing: list[bytes | None] = [None] * len(full)
            found += await self._client.ask(
                lambda full=full: self._client.redis.mget(full), otherwise=nothing
            )
        return found

    async def set_many(self, values: dict[str, bytes], *, ttl_seconds: float) -> None:
        """See `Cache`."""
        small = [(key, value) for key, value in values.items() if len(value) <= _MOST_VALUE_BYTES]
        for some in batches(small, _BATCH):
            pipeline = self._client.redis.pipeline(transaction=False)
            for key, value in some:
                pipeline.set(self._client.key(key), value, px=max(1, int(ttl_seconds * 1000)))
            await self._client.ask(pipeline.execute, otherwise=[])

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `Cache`."""
        for some in batches(keys, _BATCH):
            full = [self._client.key(key) for key in some]
            await self._client.ask(lambda full=full: self._client.redis.unlink(*full), otherwise=0)

    async def delete_beginning(self, start: str) -> None:
        """See `Cache`."""
        # Keys are hashes, ids and words of ours: nothing in them means anything to a pattern.
        pattern, cursor = self._client.key(start) + "*", 0
        while True:
            nothing: tuple[int, list[bytes]] = 0, []
            cursor, found = await self._client.ask(
                lambda cursor=cursor: self._client.redis.scan(cursor, match=pattern, count=_SCANNED),
                otherwise=nothing,
            )
            if found:
                await self._client.ask(lambda found=found: self._client.redis.unlink(*found), otherwise=0)
            if not cursor:
                return

    async def close(self) -> None:
        """See `Cache`."""
        await self._client.close()


class RedisLock:
    """Names held across hosts."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    @asynccontextmanager
    async def hold(self, name: str, *, seconds: float) -> AsyncGenerator[bool]:
        """See `Lock`."""
        key, holder = self._client.key(f"lock:{name}"), uuid4().hex

        async def take() -> bool:
            return bool(await self._client.redis.set(key, holder, nx=True, px=max(1, int(seconds * 1000))))

        if not await self._client.ask(take, otherwise=True):
            yield False
            return
        try:
            yield True
        finally:
            await self._client.ask(lambda: _evaluate(self._client, _RELEASE, key, holder), otherwise=0)


class RedisRateLimit:
    """Turns that processes share; without Redis each of them keeps to the whole limit by itself."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._queues: defaultdict[str, Queue] = defaultdict(Queue)
        self._alone = ProcessRateLimit()

    async def wait_turn(self, name: str, *, per_minute: int) -> None:
        """See `RateLimit`."""
        if per_minute <= 0:
            return
        pace, missing = Pace.of(per_minute), False

        async def reserve() -> Turn:
            nonlocal missing
            answer = await self._client.ask(
                lambda: _evaluate(
                    self._client,
                    _RESERVE,
                    self._client.key(f"rate:{name}"),
                    *(round(s * 1e6) for s in (pace.interval_seconds, pace.burst_seconds, HORIZON_SECONDS)),
                ),
                otherwise=None,
            )
            missing = answer is None
            return Turn(True, 0.0) if answer is None else Turn(bool(answer[0]), answer[1] / 1e6)

        await self._queues[name].wait(reserve)
        if missing:
            await self._alone.wait_turn(name, per_minute=per_minute)


def _evaluate(client: RedisClient, script: str, key: str, *values: str | int) -> Awaitable[Any]:
    return client.redis.eval(script, 1, key, *map(str, values))
