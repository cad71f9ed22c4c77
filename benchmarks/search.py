"""`search` in memories of 10,000 and 100,000 passages, idle and while files are ingested; and the index build's pauses."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.context import Context
from benchmarks.figures import Figure, percentile, skipped, spread
from benchmarks.filling import Vectors, fill, vectors_of
from benchmarks.memory import BenchmarkError, BenchMemory, bench_memory, until
from benchmarks.pings import slowest_ping_while
from benchmarks.texts import Texts, write_files
from benchmarks.wire import Stdio

_BUILD_SECONDS = 900.0
# What needs no build in the daemon: see `_BUILD_AFTER` in stores/vectors/edge.py.
_UNBUILT = 20_000
_P50, _P95, _UNDER_INGESTION = 15, 40, 200


def run(context: Context) -> Iterator[Figure]:
    """Milliseconds through stdio, with 10 hits each."""
    for chunks in (context.size(10_000, 400), context.size(100_000, 1_000)):
        largest = chunks in (100_000, 1_000)
        for kind, embedder, reason in context.embedders():
            name = f"`search` at {chunks:,} passages, {kind}"
            if embedder is None:
                yield skipped(f"{name}, p95", "ms", reason, budget=_P95 if largest else None)
                continue
            vectors = vectors_of(Path(embedder)) if embedder != "none" else None
            with bench_memory(embedder=embedder) as memory:
                yield from _measure(context, memory, chunks, vectors, name, judged=largest)


def _measure(
    context: Context, memory: BenchMemory, chunks: int, vectors: Vectors | None, name: str, *, judged: bool
) -> Iterator[Figure]:
    asyncio.run(fill(memory.home, chunks, vectors))
    filled = _shards(memory)
    memory.start()
    # Searches are measured on the index that the daemon goes on with, also where there are words only.
    if chunks > _UNBUILT:
        yield _build(memory, filled, name)
    with memory.stdio() as client:
        client.initialize()
        texts = Texts(seed=9)
        _timed_search(client, texts, context.size(30, 2))
        idle = _timed_search(client, texts, context.size(300, 10))
        yield _figure(f"{name}, p50", percentile(idle, 50), _P50 if judged else None, idle)
        yield _figure(f"{name}, p95", percentile(idle, 95), _P95 if judged else None, idle)
        busy = _search_while_ingesting(context, memory, client, texts)
        yield _figure(
            f"{name}, p95 under ingestion",
            percentile(busy, 95),
            _UNDER_INGESTION if judged else None,
            busy,
            note=f"{percentile(busy, 95) / percentile(idle, 95):.1f} times the idle one",
        )


def _search_while_ingesting(
    context: Context, memory: BenchMemory, client: Stdio, texts: Texts
) -> list[float]:
    with TemporaryDirectory(prefix="apex-bench-") as folder:
        files = context.size(2_000, 40)
        write_files(Path(folder), files, seed=10)
        busy: list[float] = []
        with memory.ingesting(Path(folder)) as ingest:
            # Not before the first of them is there: the command starts slower than a search answers.
            until(
                lambda: client.tool("get_stats")["ingestions"].get("running", 0) or not ingest.going_on(),
                "it runs",
            )
            while ingest.going_on() or not busy:
                busy += _timed_search(client, texts, 1)
        if ingest.searchable != files:
            raise BenchmarkError(f"of {files} files {ingest.searchable} became searchable")
        return busy


def _timed_search(client: Stdio, texts: Texts, count: int) -> list[float]:
    """Milliseconds of searches, each for something else, so that no cache answers."""
    found: list[float] = []
    for _ in range(count):
        question = texts.question()
        began = time.perf_counter()
        answer = client.tool("search", query=question, limit=10)
        found.append((time.perf_counter() - began) * 1000)
        if not answer["hits"] or answer["degraded"]:
            raise BenchmarkError(
                f"a search answers with {len(answer['hits'])} hits, degraded: {answer['degraded']}"
            )
    return found


def _build(memory: BenchMemory, filled: set[str], name: str) -> Figure:
    """The daemon's longest pause while a child process builds the index and the daemon takes it over."""

    def building() -> bool:
        shards = _shards(memory)
        return bool(shards & filled) and time.perf_counter() - began < _BUILD_SECONDS

    began = time.perf_counter()
    pings = slowest_ping_while(memory, building)
    if _shards(memory) & filled:
        raise BenchmarkError("the index was not built")
    if not pings.count:
        raise BenchmarkError("the index was built before the daemon answered a ping")
    return Figure(
        name=f"longest pause of the daemon, start-up and index build; {name}",
        value=memory.longest_pause_ms(),
        unit="ms",
        budget=250,
        note=f"built in {time.perf_counter() - began:.0f} s; slowest of {pings.count} pings {pings.slowest_ms:.0f} ms",
        details={"slowest_ping_ms": pings.slowest_ms, "pings": pings.count},
    )


def _shards(memory: BenchMemory) -> set[str]:
    """The index's shards: two while one is being built."""
    return {place.name for place in (memory.home / "vectors").glob("*/shard-*")}


def _figure(name: str, value: float, budget: float | None, all_: list[float], note: str = "") -> Figure:
    return Figure(name=name, value=value, unit="ms", budget=budget, note=note, details=spread(all_))
