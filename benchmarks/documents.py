"""Small Word documents from 50 callers at once, each in a Temporal workflow of its own, into the real stores."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.context import Context
from benchmarks.figures import Figure, percentile, spread
from benchmarks.load import call_at_once
from benchmarks.memory import BenchmarkError, BenchMemory, bench_memory
from benchmarks.texts import write_word_files
from benchmarks.wire import Pump

_CALLERS = 50


def run(context: Context) -> Iterator[Figure]:
    """Documents a second, and how long one takes alone and under load."""
    with TemporaryDirectory(prefix="apex-bench-") as folder:
        roots = Path(folder).resolve()
        alone = write_word_files(roots / "alone", context.size(40, 3), seed=3)
        together = write_word_files(roots / "together", context.size(500, 10), seed=4)
        with bench_memory(roots=roots) as memory:
            memory.start()
            # A parser process starts with the first of these; that is start-up, not work.
            one_by_one = call_at_once(memory, 1, alone, _ingest, seconds=60).milliseconds[2:] or [0.0]
            load = call_at_once(memory, _CALLERS, together, _ingest, seconds=60)
            _check_workflows(memory, 3)
            latency = spread(load.milliseconds)
            yield Figure(
                name=f"single-document workflows, {_CALLERS} callers",
                value=load.per_second,
                unit="1/s",
                budget=21,
                better="more",
                note=f"mean {latency['mean']:.0f} ms, p99 {latency['p99']:.0f} ms",
                details={"seconds": load.seconds, "latency_ms": latency},
            )
            yield Figure(
                name="single-document workflow, alone, p50",
                value=percentile(one_by_one, 50),
                unit="ms",
                details=spread(one_by_one),
            )


async def _ingest(pump: Pump, file: Path) -> None:
    view = await pump.tool("ingest_document", source=str(file), wait_seconds=50)
    if view["state"] != "ready":
        raise BenchmarkError(f"{file.name} is {view['state']}")


def _check_workflows(memory: BenchMemory, at_least: int) -> None:
    """They went through Temporal, one by one, or the figure is of something else."""
    runs = Counter(run["type"] for run in memory.run("workflows", "--limit", "100"))
    if runs["DocumentIngestionWorkflow"] < at_least or runs["DocumentGroupWorkflow"]:
        raise BenchmarkError(f"Temporal ran {dict(runs)}")
