"""How soon a client that spawns `apex-mcp` gets its first answers."""

import time
from collections.abc import Iterator

from benchmarks.context import Context
from benchmarks.figures import Figure, percentile, spread
from benchmarks.memory import BenchMemory, bench_memory


def run(context: Context) -> Iterator[Figure]:
    """Spawn to `initialize` and to the first tool's answer: on an empty folder, a known one, a running daemon."""
    first: list[tuple[float, float]] = []
    second: list[tuple[float, float]] = []
    running: list[tuple[float, float]] = []
    for _ in range(context.size(3, 1)):
        with bench_memory() as memory:
            first.append(_answers(memory))
            memory.stop()
            second.append(_answers(memory))
            running += [_answers(memory) for _ in range(context.size(10, 3))]
    yield from _figures("daemon up", running, initialize_budget=100)
    yield from _figures("from nothing, first start", first, initialize_budget=3000)
    yield from _figures("from nothing, second start", second, initialize_budget=3000)


def _answers(memory: BenchMemory) -> tuple[float, float]:
    """Milliseconds from spawn to `initialize` answered, and to the first tool's answer."""
    with memory.stdio() as client:
        client.initialize()
        initialized = time.perf_counter() - client.spawned
        client.tool("get_stats")
        return initialized * 1000, (time.perf_counter() - client.spawned) * 1000


def _figures(name: str, times: list[tuple[float, float]], *, initialize_budget: float) -> Iterator[Figure]:
    initialized, answered = ([pair[place] for pair in times] for place in (0, 1))
    yield Figure(
        name=f"spawn to `initialize` answered, {name}",
        value=percentile(initialized, 50),
        unit="ms",
        budget=initialize_budget,
        details=spread(initialized),
    )
    yield Figure(
        name=f"spawn to the first tool's answer, {name}",
        value=percentile(answered, 50),
        unit="ms",
        details=spread(answered),
    )
