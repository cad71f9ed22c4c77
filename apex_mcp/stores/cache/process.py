"""Cache, lock and rate limit of one process."""

import time
from collections import OrderedDict, defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from apex_mcp.stores.cache.turns import Pace, Queue, Schedule, Turn

_MOST_BYTES = 32 * 1024 * 1024
# What Python keeps beside the bytes of a key and a value.
_ENTRY_BYTES = 300

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    until: float


class ProcessCache:
    """A cache in memory; what was not asked for the longest time makes room.

    Args:
        most_bytes: what it may hold.
        clock: seconds that only go forward.
    """

    def __init__(self, *, most_bytes: int = _MOST_BYTES, clock: Clock = time.monotonic) -> None:
        self._most_bytes = most_bytes
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Cache`."""
        return [self._get(key) for key in keys]

    def _get(self, key: str) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.until <= self._clock():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def set_many(self, values: dict[str, bytes], *, ttl_seconds: float) -> None:
        """See `Cache`."""
        until = self._clock() + ttl_seconds
        for key, value in values.items():
            self._drop(key)
            self._entries[key] = _Entry(value, until)
            self._bytes += _size(key, value)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """See `Cache`."""
        for key in keys:
            self._drop(key)

    async def delete_beginning(self, start: str) -> None:
        """See `Cache`."""
        await self.delete_many([key for key in self._entries if key.startswith(start)])

    async def close(self) -> None:
        """See `Cache`."""
        self._entries.clear()
        self._bytes = 0

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry.value)


class ProcessLock:
    """Names held within one process."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[str, tuple[object, float]] = {}

    @asynccontextmanager
    async def hold(self, name: str, *, seconds: float) -> AsyncGenerator[bool]:
        """See `Lock`."""
        now = self._clock()
        if name in self._held and self._held[name][1] > now:
            yield False
            return
        holder = object()
        self._held[name] = holder, now + seconds
        try:
            yield True
        finally:
            # Its time may be over, and the name another's.
            if self._held.get(name, (None, 0.0))[0] is holder:
                del self._held[name]


class ProcessRateLimit:
    """Turns within one process."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._queues: defaultdict[str, Queue] = defaultdict(Queue)
        self._schedules: defaultdict[str, Schedule] = defaultdict(lambda: Schedule(clock))

    async def wait_turn(self, name: str, *, per_minute: int) -> None:
        """See `RateLimit`."""
        if per_minute <= 0:
            return
        pace = Pace.of(per_minute)

        async def reserve() -> Turn:
            return self._schedules[name].reserve(pace)

        await self._queues[name].wait(reserve)


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + _ENTRY_BYTES
