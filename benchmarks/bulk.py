"""A folder of small files through the command line, and how long the daemon is deaf meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.context import Context
from benchmarks.figures import Figure, skipped
from benchmarks.memory import BenchmarkError, BenchMemory, bench_memory
from benchmarks.pings import slowest_ping_while
from benchmarks.texts import write_files

_BUDGET = {"words only": 300, "with a local embedder": 150}
_FILES = {"words only": 5_000, "with a local embedder": 1_500}


def run(context: Context) -> Iterator[Figure]:
    """`apex-mcp ingest FOLDER`, from the command's start to its end."""
    for kind, embedder, reason in context.embedders():
        name = f"bulk, {_FILES[kind]:,} files, {kind}"
        if embedder is None:
            yield skipped(name, "1/s", reason, budget=_BUDGET[kind])
            continue
        with TemporaryDirectory(prefix="apex-bench-") as folder, bench_memory(embedder=embedder) as memory:
            files = context.size(_FILES[kind], 40)
            write_files(Path(folder), files, seed=5)
            memory.start()
            yield from _measure(memory, Path(folder), files, name, _BUDGET[kind])


def _measure(memory: BenchMemory, folder: Path, files: int, name: str, budget: float) -> Iterator[Figure]:
    pause_before = memory.longest_pause_ms()
    started = time.perf_counter()
    with memory.ingesting(folder) as ingest:
        pings = slowest_ping_while(memory, ingest.going_on)
        seconds = time.perf_counter() - started
    if ingest.searchable != files:
        raise BenchmarkError(f"of {files} files {ingest.searchable} became searchable")
    yield Figure(
        name=name,
        value=files / seconds,
        unit="1/s",
        budget=budget,
        better="more",
        details={"seconds": seconds, "files": files},
    )
    yield Figure(
        name=f"longest pause of the daemon, start-up included; {name}",
        value=memory.longest_pause_ms(),
        unit="ms",
        budget=250,
        note=f"{pause_before:.0f} ms by start-up alone; slowest of {pings.count} pings {pings.slowest_ms:.0f} ms",
        details={"at_start_up_ms": pause_before, "slowest_ping_ms": pings.slowest_ms, "pings": pings.count},
    )
