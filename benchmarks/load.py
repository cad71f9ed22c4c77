"""Many callers at once, each with one call in flight, over a few stdio processes.

A process for each of 64 callers would measure how a machine of two cores runs 64 interpreters; the daemon sees the same
requests either way. So the callers are coroutines of one lean process, spread over `PUMPS` real `apex-mcp` processes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.memory import BenchMemory
from benchmarks.wire import Pump, Pumps

PUMPS = 4
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Load:
    """What many callers saw: how many calls in how many seconds, and each one's milliseconds."""

    seconds: float
    milliseconds: list[float]

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds


def call_at_once(
    memory: BenchMemory,
    callers: int,
    work: Sequence[T],
    call: Callable[[Pump, T], Awaitable[None]],
    *,
    seconds: float,
) -> Load:
    """Let callers take from the work until none is left, or the time is over.

    Args:
        memory: whose daemon runs.
        callers: how many at once.
        work: what to call with, in order.
        call: one call, awaited until it is answered.
        seconds: no call begins later than this.
    """
    return asyncio.run(_call_at_once(memory, callers, work, call, seconds))


async def _call_at_once(
    memory: BenchMemory,
    callers: int,
    work: Sequence[T],
    call: Callable[[Pump, T], Awaitable[None]],
    seconds: float,
) -> Load:
    waiting = iter(work)
    milliseconds: list[float] = []
    async with Pumps(PUMPS, [memory.command], memory.environment) as pumps:
        started = time.perf_counter()

        async def caller(pump: Pump) -> None:
            for item in waiting:
                began = time.perf_counter()
                if began - started > seconds:
                    return
                await call(pump, item)
                milliseconds.append((time.perf_counter() - began) * 1000)

        async with asyncio.TaskGroup() as tasks:
            for number in range(callers):
                tasks.create_task(caller(pumps[number % PUMPS]))
        return Load(seconds=time.perf_counter() - started, milliseconds=milliseconds)
