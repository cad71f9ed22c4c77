"""What a memory costs while nobody uses it: memory and CPU of the daemon and all that it runs."""

import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

from benchmarks.context import Context
from benchmarks.figures import Figure, skipped
from benchmarks.memory import BenchMemory, bench_memory
from benchmarks.texts import Texts

_DAEMON_BUDGET = {"words only": 250, "with a local embedder": 400}
_MB = 1024 * 1024


def run(context: Context) -> Iterator[Figure]:
    """After some notes and a rest, without any client."""
    for kind, embedder, reason in context.embedders():
        name = f"daemon's memory, idle, {kind}"
        if embedder is None:
            yield skipped(name, "MB", reason, budget=_DAEMON_BUDGET[kind])
            continue
        with bench_memory(embedder=embedder) as memory:
            memory.start()
            texts = Texts(seed=6)
            with memory.stdio() as client:
                client.initialize()
                for _ in range(context.size(50, 3)):
                    client.tool("add_memory", text=texts.note(), wait_seconds=20)
                client.tool("search", query=texts.question())
            time.sleep(context.size(20, 1))
            yield from _measure(memory, name, kind, context.size(30, 1))


def _measure(memory: BenchMemory, name: str, kind: str, seconds: int) -> Iterator[Figure]:
    daemon = memory.daemon().memory_info().rss / _MB
    yield Figure(name=name, value=daemon, unit="MB", budget=_DAEMON_BUDGET[kind], note="resident")
    processes = memory.processes()
    each = {f"{process.name()} {process.pid}": _own_memory(process) / _MB for process in processes}
    yield Figure(
        name=f"memory of everything, idle, {kind}",
        value=sum(each.values()),
        unit="MB",
        budget=800,
        note=f"{len(each)} processes; pages that several share counted once",
        details=each,
    )
    before = _cpu_seconds(memory)
    time.sleep(seconds)
    after = _cpu_seconds(memory)
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    yield Figure(
        name=f"CPU of everything, idle, {kind}",
        value=sum(used.values()) / seconds * 100,
        unit="% of a core",
        budget=2,
        note=f"over {seconds} s",
        details={name: value / seconds * 100 for name, value in used.items()},
    )


def _own_memory(process: psutil.Process) -> int:
    """A process's share of memory: on Linux shared pages are divided among those that share them."""
    with suppress(psutil.Error):
        full = process.memory_full_info()
        return int(getattr(full, "pss", 0) or getattr(full, "uss", 0) or full.rss)
    return 0


def _cpu_seconds(memory: BenchMemory) -> dict[str, float]:
    """CPU seconds of each process, those of its children that have ended included."""
    used: dict[str, float] = {}
    for process in memory.processes():
        with suppress(psutil.Error):
            used[f"{process.name()} {process.pid}"] = sum(process.cpu_times()[:4])
    return used
