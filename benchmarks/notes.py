"""Notes from 16 and 64 callers at once: each is accepted by itself, and its caller waits until it is searchable."""

from collections.abc import Iterator

from benchmarks.context import Context
from benchmarks.figures import Figure, skipped, spread
from benchmarks.load import call_at_once
from benchmarks.memory import BenchmarkError, BenchMemory, bench_memory
from benchmarks.texts import Texts
from benchmarks.wire import Pump

_BUDGETS = {("words only", 16): 200, ("words only", 64): 500}
_BUDGETS_EMBEDDED = {("with a local embedder", 16): 100, ("with a local embedder", 64): 150}
_BUDGET = {**_BUDGETS, **_BUDGETS_EMBEDDED}
_SECONDS = 15.0
_MOST = 20_000


def run(context: Context) -> Iterator[Figure]:
    """Notes a second until searchable, and how long each took."""
    for kind, embedder, reason in context.embedders():
        for callers in (16, 64):
            name = f"notes from {callers} callers at once, {kind}"
            budget = _BUDGET[kind, callers]
            if embedder is None:
                yield skipped(name, "1/s", reason, budget=budget)
                continue
            with bench_memory(embedder=embedder) as memory:
                memory.start()
                yield _measure(context, memory, name, callers, budget)


def _measure(context: Context, memory: BenchMemory, name: str, callers: int, budget: float) -> Figure:
    texts = Texts(seed=callers)
    call_at_once(memory, callers, [texts.note() for _ in range(callers * 2)], _remember, seconds=_SECONDS)
    warm = callers * 2
    notes = [texts.note() for _ in range(context.size(_MOST, callers * 2))]
    load = call_at_once(memory, callers, notes, _remember, seconds=_SECONDS)
    with memory.stdio() as client:
        client.initialize()
        stats = client.tool("get_stats")
    if stats["documents"] != warm + len(load.milliseconds):
        raise BenchmarkError(
            f"{warm + len(load.milliseconds)} notes answered ready, {stats['documents']} are there"
        )
    latency = spread(load.milliseconds)
    return Figure(
        name=name,
        value=load.per_second,
        unit="1/s",
        budget=budget,
        better="more",
        note=f"p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms",
        details={
            "seconds": load.seconds,
            "latency_ms": latency,
            "longest_pause_ms": memory.longest_pause_ms(),
        },
    )


async def _remember(pump: Pump, text: str) -> None:
    view = await pump.tool("add_memory", text=text, wait_seconds=30)
    if view["state"] != "ready":
        raise BenchmarkError(f"a note is {view['state']}")
