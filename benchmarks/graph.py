"""The graph stores: writes, names and neighbourhoods, on the record itself and on a real Neo4j (of the tests)."""

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from apex_mcp import ids
from apex_mcp.errors import Code
from apex_mcp.ingestion.projecting import Projector
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.graph.neo4j_client import Neo4jClient
from apex_mcp.stores.graph.neo4j_graph import Neo4jGraph
from apex_mcp.stores.graph.protocol import Graph
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record, open_record
from benchmarks.context import Context
from benchmarks.figures import Figure, percentile, skipped, spread
from benchmarks.graph_filling import NAMESPACE, Size, commit, copy, documents, name_of
from tests.services.neo4j_server import Neo4jServer, lacking, running

_FACTS_AN_ENTITY = 5
# Of the documents, so many are committed one after another as ingestions do.
_COMMITTED = 40
# As a server is started, not as one for tests.
_JAVA = ("java", "-Xmx2g")
_PAGES_MB = 512


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One store's figures; questions in milliseconds."""

    store: str
    note: str
    written_per_second: float
    seconds: float
    questions: dict[str, list[float]]


def run(context: Context) -> Iterator[Figure]:
    """Entities and facts written a second; milliseconds of names and of 1 and 2 hops.

    `BENCH_GRAPH_ENTITIES` sets how many entities there are, each with five facts.
    """
    entities = int(os.environ.get("BENCH_GRAPH_ENTITIES") or context.size(100_000, 2_000))
    size = Size(entities=entities, facts=_FACTS_AN_ENTITY)
    questions = context.size(300, 20)
    lack = lacking()
    if lack:
        yield skipped(f"graph in Neo4j: {size}", "1/s", lack)
    with TemporaryDirectory(prefix="apex-bench-", ignore_cleanup_errors=True) as folder:
        if lack:
            measured = asyncio.run(_measure(Path(folder), None, size, questions))
        else:
            with running(Path(folder), java=_JAVA, pages_mb=_PAGES_MB) as server:
                measured = asyncio.run(_measure(Path(folder), server, size, questions))
    for one in measured:
        yield Figure(
            name=f"graph in {one.store}: {size}, written",
            value=one.written_per_second,
            unit="1/s",
            better="more",
            note=one.note,
            details={"seconds": one.seconds},
        )
        for what, times in one.questions.items():
            for percent in (50, 95):
                yield Figure(
                    name=f"graph in {one.store}: {what}, p{percent}",
                    value=percentile(times, percent),
                    unit="ms",
                    details=spread(times),
                )


async def _measure(folder: Path, server: Neo4jServer | None, size: Size, questions: int) -> list[Measured]:
    async with _record(folder) as record:
        every = list(documents(size))
        last = len(every) - min(_COMMITTED, len(every) // 2)
        copied, committed = every[:last], every[last:]
        await copy(record, copied)
        seconds = await _timed(lambda: commit(record, committed))
        rows = sum(len(said.entities) + len(said.facts) for _, said in committed)
        of_record = RecordGraph(record.reader)
        measured = [
            Measured(
                store="PostgreSQL",
                note=f"mentions of entities and facts, by committing the last {len(committed)} documents",
                written_per_second=rows / seconds,
                seconds=seconds,
                questions=await _ask(of_record, size, questions),
            )
        ]
        if server is None:
            return measured
        breaker = CircuitBreaker("graph", Code.GRAPH_UNAVAILABLE, Health())
        client = Neo4jClient.connect(
            server.uri, user=server.user, password=server.password, database="neo4j", breaker=breaker
        )
        record_id = (await record.index_log.identity()).record_id
        projector = Projector(record, client, record_id)

        async def project() -> None:
            while await projector.run(pages=20):
                pass

        seconds = await _timed(project)
        graph = Neo4jGraph(client, record_id)
        (nodes,) = await client.read("MATCH (n:Entity) RETURN count(n) AS n")
        (edges,) = await client.read("MATCH ()-[r:RELATES_TO]->() RETURN count(r) AS n")
        assert (nodes["n"], edges["n"]) >= (size.entities, size.entities * size.facts)
        measured.append(
            Measured(
                store="Neo4j",
                note=f"{seconds:,.0f} s for everything, mentions besides",
                written_per_second=size.everything / seconds,
                seconds=seconds,
                questions=await _ask(graph, size, questions),
            )
        )
        await client.close()
    return measured


@asynccontextmanager
async def _record(folder: Path) -> AsyncGenerator[Record]:
    postgres = EmbeddedPostgres(DataFolder(folder / "home").prepare())
    try:
        async with open_record(await postgres.start()) as record:
            yield record
    finally:
        await postgres.stop()


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


async def _ask(graph: Graph, size: Size, questions: int) -> dict[str, list[float]]:
    """Milliseconds of each question, one at a time; the first ones warm the store up."""
    chance = random.Random(12)
    wanted = [chance.randrange(size.entities) for _ in range(questions)]
    names: list[float] = []
    hops: dict[int, list[float]] = {1: [], 2: []}
    for one in [*wanted[: questions // 10], *wanted]:
        seconds = await _timed(lambda one=one: graph.find_names(NAMESPACE, name_of(one), limit=10))
        names.append(1000 * seconds)
        entity = ids.entity_id(NAMESPACE, name_of(one))
        for far, times in hops.items():
            seconds = await _timed(
                lambda entity=entity, far=far: graph.neighbours(NAMESPACE, [entity], hops=far, limit=50)
            )
            times.append(1000 * seconds)
    return {"names": names[-questions:], "1 hop": hops[1][-questions:], "2 hops": hops[2][-questions:]}
