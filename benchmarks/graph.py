"""The graph stores: writes, names and neighbourhoods, on the record itself and on a real Neo4j (of the tests)."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.errors import Code
from apex_mcp.ingestion.projecting import Projector
from apex_mcp.models import (
    Chunk,
    ExtractedEntity,
    ExtractedFact,
    Extraction,
    IngestionRequest,
    Lane,
    ParsedDocument,
    Place,
    SourceType,
)
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.graph.neo4j_client import Neo4jClient
from apex_mcp.stores.graph.neo4j_graph import Neo4jGraph
from apex_mcp.stores.graph.protocol import Graph
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.versions import NewVersion
from benchmarks.context import Context
from benchmarks.figures import Figure, percentile, skipped, spread
from tests.services.neo4j_server import Neo4jServer, lacking, running

_NAMESPACE = "default"
_ENTITIES_IN_A_DOCUMENT = 50
_FACTS_AN_ENTITY = 5
_DOCUMENTS_TOGETHER = 10
_LEASE_SECONDS = 600.0
_FIRST = ("Anna", "Bela", "Cem", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivo", "Jana", "Kemal", "Lena")
_PREDICATES = ("works_at", "knows", "owns", "visited", "supplies", "wrote", "located_in", "member_of")


def run(context: Context) -> Iterator[Figure]:
    """Writes of entities and facts a second; milliseconds of names and of 1 and 2 hops."""
    entities = context.size(100_000, 2_000)
    size = f"{entities:,} entities and {entities * _FACTS_AN_ENTITY:,} facts"
    lack = lacking()
    if lack:
        yield skipped(f"graph in Neo4j: {size}", "1/s", lack)
    with TemporaryDirectory(prefix="apex-bench-", ignore_cleanup_errors=True) as folder:
        if lack:
            measured = asyncio.run(_measure(Path(folder), None, entities, context.size(300, 20)))
        else:
            with running(Path(folder)) as server:
                measured = asyncio.run(_measure(Path(folder), server, entities, context.size(300, 20)))
    for store, rate, names, one_hop, two_hops in measured:
        yield Figure(
            name=f"graph in {store}: {size}, written", value=rate, unit="1/s", better="more",
            note="by the commits that bring them" if store == "PostgreSQL" else "from the record, after the commits",
        )  # fmt: skip
        for what, times in (("names", names), ("1 hop", one_hop), ("2 hops", two_hops)):
            for percent in (50, 95):
                yield Figure(
                    name=f"graph in {store}: {what}, p{percent}",
                    value=percentile(times, percent),
                    unit="ms",
                    details=spread(times),
                )


async def _measure(
    folder: Path, server: Neo4jServer | None, entities: int, questions: int
) -> list[tuple[str, float, list[float], list[float], list[float]]]:
    written = entities * (1 + _FACTS_AN_ENTITY)
    async with _record(folder) as record:
        seconds = await _timed(lambda: _fill(record, entities))
        async with record.database.connection() as connection:
            await connection.execute("ANALYZE")
        graph: Graph = RecordGraph(record.reader)
        measured = [("PostgreSQL", written / seconds, *await _ask(graph, entities, questions))]
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
        measured.append(("Neo4j", written / seconds, *await _ask(graph, entities, questions)))
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


async def _fill(record: Record, entities: int) -> None:
    chance = random.Random(11)
    for numbers in batches(list(range(0, entities, _ENTITIES_IN_A_DOCUMENT)), _DOCUMENTS_TOGETHER):
        requests = [_request(number) for number in numbers]
        accepted = await record.ingestions.accept(requests)
        claim, _ = await record.ingestions.claim(
            owner="filling", lane=Lane.FAST, bulk=False, limit=len(requests), lease_seconds=_LEASE_SECONDS
        )
        versions = [
            _version(request, ingestion_id, claim, _extraction(number, entities, chance))
            for request, ingestion_id, number in zip(requests, accepted, numbers, strict=True)
        ]
        await record.versions.commit(versions, claim)


def _name(number: int) -> str:
    return f"{_FIRST[number % len(_FIRST)]} Family{number // len(_FIRST)}"


def _extraction(first: int, entities: int, chance: random.Random) -> Extraction:
    """Fifty entities, and facts from each to others anywhere; a few of these are in many."""
    named = range(first, min(first + _ENTITIES_IN_A_DOCUMENT, entities))
    pairs = [
        (one, min(int(entities * chance.random() ** 2), entities - 1))
        for one in named
        for _ in range(_FACTS_AN_ENTITY)
    ]
    return Extraction(
        entities=tuple(
            ExtractedEntity(name=_name(one), type="Person", chunks=(0,))
            for one in sorted({*named, *(other for _, other in pairs)})
        ),
        facts=tuple(
            ExtractedFact(
                subject=_name(one),
                predicate=_PREDICATES[place % len(_PREDICATES)],
                object=_name(other),
                sentence=f"{_name(one)} and {_name(other)}.",
                chunk=0,
            )
            for place, (one, other) in enumerate(pairs)
        ),
    )


def _request(number: int) -> IngestionRequest:
    key = f"book-{number}"
    return IngestionRequest(
        namespace=_NAMESPACE,
        key=key,
        source_type=SourceType.INLINE,
        lane=Lane.FAST,
        fingerprint=key,
        text=key,
    )


def _version(request: IngestionRequest, ingestion_id: UUID, claim: UUID, said: Extraction) -> NewVersion:
    document_id = ids.document_id(request.namespace, request.key)
    text = " ".join(fact.sentence for fact in said.facts)
    return NewVersion(
        id=ids.version_id(document_id, ingestion_id, claim),
        ingestion_id=ingestion_id,
        document_id=document_id,
        namespace=request.namespace,
        content_hash=request.fingerprint,
        title=request.key,
        uri="apex://bench",
        source_type=request.source_type,
        document_time=None,
        metadata={},
        parsed=ParsedDocument(text=text, title=request.key, media_type="text/plain"),
        chunks=(Chunk(ordinal=0, text=text, place=Place(start=0, end=len(text)), tokens=500),),
        extraction=said,
    )


async def _ask(graph: Graph, entities: int, questions: int) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds of each question, one at a time; the first ones warm the store up."""
    chance = random.Random(12)
    wanted: Sequence[int] = [chance.randrange(entities) for _ in range(questions)]
    names: list[float] = []
    hops: dict[int, list[float]] = {1: [], 2: []}
    for one in [*wanted[: questions // 10], *wanted]:
        seconds = await _timed(lambda one=one: graph.find_names(_NAMESPACE, _name(one), limit=10))
        names.append(1000 * seconds)
        entity = ids.entity_id(_NAMESPACE, _name(one))
        for far, times in hops.items():
            seconds = await _timed(
                lambda entity=entity, far=far: graph.neighbours(_NAMESPACE, [entity], hops=far, limit=50)
            )
            times.append(1000 * seconds)
    return names[-questions:], hops[1][-questions:], hops[2][-questions:]
