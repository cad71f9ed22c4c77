"""One caller, one note at a time: acknowledged, and searchable; then `search` in that small memory."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.context import Context
from benchmarks.figures import Figure, percentile, spread
from benchmarks.memory import bench_memory, until
from benchmarks.texts import Texts
from benchmarks.wire import Stdio

_NOTES_SEARCHED = 400


def run(context: Context) -> Iterator[Figure]:
    """`add_memory` and `search` through stdio."""
    for kind, embedder, reason in context.embedders():
        if embedder is None:
            yield Figure(name=f"alone, {kind}", value=None, unit="ms", note=f"skipped: {reason}")
            continue
        with bench_memory(embedder=embedder) as memory:
            memory.start()
            with memory.stdio() as client:
                client.initialize()
                yield from _measure(context, client, kind)


def _measure(context: Context, client: Stdio, kind: str) -> Iterator[Figure]:
    texts = Texts(seed=2)
    rounds = context.size(100, 5)
    for _ in range(context.size(20, 2)):
        client.tool("add_memory", text=texts.note(), wait_seconds=20)

    acknowledged: list[float] = []
    for _ in range(rounds):
        text = texts.note()
        milliseconds, answer = _timed(lambda text=text: client.tool("add_memory", text=text, wait_seconds=0))
        acknowledged.append(milliseconds)
        # Not measured: the next one is to be alone, too.
        until(lambda id_=answer["ingestion_id"]: _ready(client, id_), "a note is searchable", pause=0.02)
    yield _figure(f"`add_memory` acknowledged, {kind}", acknowledged, 15)

    searchable: list[float] = []
    for _ in range(rounds):
        text = texts.note()
        milliseconds, answer = _timed(lambda text=text: client.tool("add_memory", text=text, wait_seconds=20))
        assert answer["state"] == "ready", answer
        searchable.append(milliseconds)
    yield _figure(f"`add_memory` searchable, {kind}", searchable, 60)

    notes = context.size(_NOTES_SEARCHED, 20)
    for _ in range(notes - client.tool("get_stats")["documents"]):
        client.tool("add_memory", text=texts.note(), wait_seconds=20)
    found: list[float] = []
    for _ in range(context.size(200, 10)):
        question = texts.question()
        found.append(_timed(lambda question=question: client.tool("search", query=question))[0])
    documents = client.tool("get_stats")["documents"]
    yield _figure(f"`search` through stdio with {documents} notes, {kind}", found, 8)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = work()
    return (time.perf_counter() - started) * 1000, answer


def _ready(client: Stdio, ingestion_id: str) -> bool:
    [view] = client.tool("get_ingestion", ingestion_id=ingestion_id)["ingestions"]
    return view["state"] == "ready"


def _figure(name: str, milliseconds: list[float], budget: float) -> Figure:
    return Figure(
        name=f"{name}, p50",
        value=percentile(milliseconds, 50),
        unit="ms",
        budget=budget,
        details=spread(milliseconds),
    )
