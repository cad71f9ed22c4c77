"""Turns: calls spread over time, by a virtual schedule that moves on by one interval a call (GCRA)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# A turn further ahead is not reserved: whoever gave up waiting for it would hold it against all others.
HORIZON_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast calls may go out: one an interval, and one second's worth of them at once."""

    interval_seconds: float
    burst_seconds: float

    @classmethod
    def of(cls, per_minute: int) -> "Pace":
        """The pace of so many calls a minute."""
        interval = 60 / per_minute
        return cls(interval, max(1.0 - interval, 0.0))


@dataclass(frozen=True, slots=True)
class Turn:
    """An answer of the schedule: a turn in `wait_seconds`, or none yet (`reserved` False) and when to ask again."""

    reserved: bool
    wait_seconds: float


class Queue:
    """Those of this process who wait for a turn, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self, reserve: Callable[[], Awaitable[Turn]]) -> None:
        """Ask for a turn until one is reserved, and wait for it."""
        async with self._lock:
            while not (turn := await reserve()).reserved:  # noqa: ASYNC110  (the schedule may be another process')
                await asyncio.sleep(min(turn.wait_seconds, HORIZON_SECONDS))
        if turn.wait_seconds > 0:
            await asyncio.sleep(turn.wait_seconds)


class Schedule:
    """The schedule of one process.

    Args:
        clock: seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due = 0.0

    def reserve(self, pace: Pace) -> Turn:
        """The next turn, if it is near."""
        now = self._clock()
        due = max(self._due, now)
        wait = max(due - pace.burst_seconds - now, 0.0)
        if wait > HORIZON_SECONDS:
            return Turn(False, wait)
        self._due = due + pace.interval_seconds
        return Turn(True, wait)
