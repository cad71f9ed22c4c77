"""How long a client waits at worst for the cheapest answer there is, while something else goes on."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.memory import BenchMemory

_EVERY_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Pings:
    """How many pings were sent, and the slowest answer."""

    count: int
    slowest_ms: float


def slowest_ping_while(memory: BenchMemory, going_on: Callable[[], bool]) -> Pings:
    """Ping the daemon over stdio as long as something goes on."""
    count, slowest = 0, 0.0
    with memory.stdio() as client:
        client.initialize()
        while going_on():
            began = time.perf_counter()
            client.request("ping", {})
            slowest = max(slowest, time.perf_counter() - began)
            count += 1
            time.sleep(_EVERY_SECONDS)
    return Pings(count=count, slowest_ms=slowest * 1000)
