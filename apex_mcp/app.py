"""Composition root: from settings to stores, steps and Memory. The only place that names concrete classes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import urlsplit
from uuid import UUID

from temporalio.client import Client

from apex_mcp.errors import Code, Unavailable
from apex_mcp.ingestion.contract import TASK_QUEUE, shared_queue
from apex_mcp.ingestion.embedding import open_embedder
from apex_mcp.ingestion.embedding.cached import CachedEmbedder
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.enriching import Extractor, open_extractor
from apex_mcp.ingestion.enriching.enricher import Enricher
from apex_mcp.ingestion.enriching.ontology import load_ontology
from apex_mcp.ingestion.erasing import Eraser
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.leavings import Leavings
from apex_mcp.ingestion.maintenance import Maintenance
from apex_mcp.ingestion.pool import ChildPool
from apex_mcp.ingestion.staging import Staging, open_staging
from apex_mcp.ingestion.steps import Steps
from apex_mcp.ingestion.verifying import Verifier
from apex_mcp.memory import Memory
from apex_mcp.models import EnrichmentState
from apex_mcp.retrieval.cached import AnswerCache
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.temporal_client import TemporalPlace, users_temporal
from apex_mcp.settings import Settings
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.cache.opening import Shared, open_shared
from apex_mcp.stores.graph.best import BestGraph
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.address import shown, users_conninfo
from apex_mcp.stores.record.in_use import (
    GRAPH,
    MODEL,
    end_unused,
    end_whenever_unused,
    set_read_by_model,
    use,
)
from apex_mcp.stores.record.listening import shared_bell
from apex_mcp.stores.record.owner import Ownership, own_record, share_record, take_index
from apex_mcp.stores.vectors.edge_home import EdgeHome
from apex_mcp.stores.vectors.home import IndexHome
from apex_mcp.stores.vectors.protocol import VectorIndex

# Loads Neo4j's driver, so only where a server is set.
if TYPE_CHECKING:
    from apex_mcp.ingestion.projecting import Projector
    from apex_mcp.ingestion.verifying.of_graph import GraphVerifier

# Names of what one process does at a time.
_MARKING: LiteralString = "apex-mcp staging mark"
_MARKING_SECONDS = 10.0

Server = tuple[str, str, Callable[[], Awaitable[object]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything that one process needs.

    Attributes:
        sole: no other process works on this record, so whatever another one has claimed is lost.
        task_queue: where this memory's workflows wait for a worker.
        extractor, enricher: where this process works and a model is set.
        temporal_client: for asking; a worker needs `worker_client`.
        ownership: of the record, alone or shared, where that is not the data folder's own.
        verify_qdrant: raises where the server does not answer, whatever is in it; None where there is none.
        projector: writes the graph, where it is on a server.
    """

    settings: Settings
    record: Record
    record_id: UUID
    ownership: Ownership | None
    sole: bool
    index: IndexKeeper
    verify_qdrant: Callable[[], Awaitable[None]] | None
    embedder: Embedder | None
    extractor: Extractor | None
    enricher: Enricher | None
    projector: "Projector | None"
    pool: ChildPool
    staging: Staging
    steps: Steps
    maintenance: Maintenance
    bell: Bell
    health: Health
    shared: Shared
    memory: Memory
    temporal: TemporalPlace
    temporal_client: Client
    task_queue: str

    @property
    def vectors(self) -> VectorIndex:
        return self.index.vectors

    async def busy(self) -> bool:
        """Whether ingestions are unfinished, or a model is still to read something.

        Raises:
            Unavailable: the record does not answer.
        """
        if await self.record.ingestions.unfinished() > 0:
            return True
        if self.enricher is None:
            return False
        counts = await self.record.enrichments.counts()
        return any(counts.get(state) for state in (EnrichmentState.PENDING, EnrichmentState.RUNNING))

    def servers(self) -> list[Server]:
        """The parts that are on servers of the user's: name, address, and a question that raises where it does not answer."""
        settings = self.settings
        servers: list[Server] = []
        if settings.database_url is not None:
            ask = partial(self.record.database.fetch_one, "SELECT 1")
            servers.append(("postgres", shown(self.record.database.conninfo), ask))
        if self.temporal.own:
            servers.append((
                "temporal",
                self.temporal.address,
                partial(self.temporal.verify, self.temporal_client),
            ))
        if settings.qdrant_url is not None:
            assert self.verify_qdrant is not None
            servers.append(("qdrant", _host(settings.qdrant_url), self.verify_qdrant))
        if settings.neo4j_uri is not None and self.projector is not None:
            servers.append(("neo4j", _host(settings.neo4j_uri), self.projector.verify))
        if settings.redis_url is not None and self.shared.verify_redis is not None:
            servers.append(("redis", _host(settings.redis_url.get_secret_value()), self.shared.verify_redis))
        if settings.staging.startswith("s3://"):
            # Of a piece that is not there: nothing is read or written.
            ask = partial(self.staging.get, self.record_id, "look")
            servers.append(("staging", settings.staging, ask))
        return servers

    async def worker_client(self) -> Client:
        """A client with which a worker can poll: one that is connected.

        Raises:
            Unavailable: Temporal does not answer.
        """
        return await self.temporal.connect() if self.temporal.own else self.temporal_client

    async def with_temporal_at(self, address: str) -> "App":
        """The same app, where the bundled Temporal came back elsewhere.

        Raises:
            Unavailable: Temporal does not answer.
        """
        temporal = replace(self.temporal, address=address)
        return replace(self, temporal=temporal, temporal_client=await temporal.connect())


@asynccontextmanager
async def open_app(
    settings: Settings,
    *,
    folder: DataFolder,
    conninfo: str | None = None,
    temporal_address: str | None = None,
    working: bool = True,
) -> AsyncGenerator[App]:
    """Open everything.

    Args:
        settings: which parts are on servers of the user's.
        folder: the data folder, for what is not.
        conninfo: the bundled PostgreSQL, where it runs; else the settings name one.
        temporal_address: the bundled Temporal, where it runs; else the settings name one.
        working: this process works: it asks the model, and takes part in keeping the vector index whole.

    Raises:
        Unavailable: a part that cannot be done without does not answer.
        Rejected: a setting or the database's schema does not fit.
        Conflict: another process owns the record, or shares one that this one would own.
    """
    async with AsyncExitStack() as stack:
        ontology = load_ontology(settings)
        record = await stack.enter_async_context(
            open_record(conninfo or _users_database(settings), exclusive=ontology.exclusive)
        )
        identity = await record.index_log.identity()
        record_id = identity.record_id
        bundled = conninfo is not None
        sole = bundled or settings.alone
        health = Health()
        staging = await open_staging(settings, folder.staging, health)
        ownership = await _own(stack, record, settings, folder, staging) if not bundled else None
        temporal, task_queue = _temporal(settings, temporal_address, record_id)
        client = await temporal.connect(lazy=temporal.own)

        shared = await stack.enter_async_context(
            open_shared(settings, record_id=record_id, health=health, alone=sole)
        )
        embedder = open_embedder(settings, folder.models, of_record=identity.embedder)
        if embedder is not None:
            stack.push_async_callback(embedder.close)
            embedder = embedder if embedder.local else CachedEmbedder(embedder, shared.cache)
        # Only where it is asked, and in a thread: what it needs takes a second to load.
        extractor = await asyncio.to_thread(open_extractor, settings, shared.rate_limit) if working else None
        enricher = None
        if working:
            await _note_reading(stack, record, reading=extractor is not None, sole=sole)
        if extractor is not None:
            stack.push_async_callback(extractor.close)
            enricher = Enricher(
                settings=settings,
                store=record.enrichments,
                extractor=extractor,
                embedder=embedder,
                exclusive=ontology.exclusive,
                lock=shared.lock,
            )
        pool = ChildPool(size=settings.children, memory_mb=settings.parse_memory_mb, name="parser")
        stack.push_async_callback(pool.close)
        # What takes milliseconds waits for no book: small files have a child of their own, while there are any.
        quick_pool = ChildPool(size=1, memory_mb=settings.parse_memory_mb, name="quick-parser")
        stack.push_async_callback(quick_pool.close)

        graph, projector, graph_verifier = await _graph(
            stack, settings, record, record_id, health, sole=sole, working=working
        )
        home, verify_qdrant = await stack.enter_async_context(
            _index_home(settings, folder, record_id, health)
        )
        leavings = Leavings(record.forgetting, staging, shared.cache, embedder)
        index = await IndexKeeper.open(record=record, home=home, embedder=embedder, leavings=leavings)
        stack.push_async_callback(index.close)

        bell = Bell() if sole else await stack.enter_async_context(shared_bell(record.database))
        verifier = Verifier(
            record=record,
            index=index,
            staging=staging,
            staging_ttl_seconds=settings.staging_ttl_seconds,
            graph=graph_verifier,
            on_redis=settings.redis_url is not None,
        )
        await stack.enter_async_context(_background(index.run(upkeep=working, bell=bell)))
        yield App(
            settings=settings,
            record=record,
            record_id=record_id,
            ownership=ownership,
            sole=sole,
            index=index,
            verify_qdrant=verify_qdrant,
            embedder=embedder,
            extractor=extractor,
            enricher=enricher,
            projector=projector,
            pool=pool,
            staging=staging,
            steps=Steps(
                settings=settings,
                record=record,
                index=index,
                staging=staging,
                pool=pool,
                quick_pool=quick_pool,
                progress=shared.progress,
            ),
            maintenance=Maintenance(
                settings=settings,
                record=record,
                index=index,
                verifier=verifier,
                eraser=Eraser(settings, record, index, bundled=bundled),
                cache=shared.cache,
                bell=bell,
            ),
            bell=bell,
            health=health,
            shared=shared,
            memory=Memory(
                ontology=ontology,
                settings=settings,
                record=record,
                index=index,
                embedder=embedder,
                graph=graph,
                progress=shared.progress,
                bell=bell,
                health=health,
                staging=staging,
                verifier=verifier,
                answers=_answers(shared, record, embedder),
                verify_redis=shared.verify_redis,
            ),
            temporal=temporal,
            temporal_client=client,
            task_queue=task_queue,
        )


@asynccontextmanager
async def open_server_app(settings: Settings, *, working: bool = True) -> AsyncGenerator[App]:
    """Open everything in a process of the server profile; its data folder only holds models. Raises as `open_app`."""
    folder = DataFolder(settings.home).prepare_for_models()
    async with open_app(settings, folder=folder, working=working) as app:
        yield app


@asynccontextmanager
async def _index_home(
    settings: Settings, folder: DataFolder, record_id: UUID, health: Health
) -> AsyncGenerator[tuple[IndexHome, Callable[[], Awaitable[None]] | None]]:
    """Where the vector index is: on the server that is set, and what asks for it, else in the data folder."""
    if settings.qdrant_url is None:
        yield EdgeHome(folder.vectors), None
        return
    from apex_mcp.stores.vectors.qdrant_home import QdrantHome, qdrant_client  # takes a moment to load

    key = settings.qdrant_api_key.get_secret_value() if settings.qdrant_api_key is not None else None
    async with qdrant_client(settings.qdrant_url, key) as client:
        breaker = CircuitBreaker("vectors", Code.VECTORS_UNAVAILABLE, health)
        home = QdrantHome(client, record_id, breaker=breaker)
        yield home, home.verify


async def _graph(
    stack: AsyncExitStack,
    settings: Settings,
    record: Record,
    record_id: UUID,
    health: Health,
    *,
    sole: bool,
    working: bool,
) -> tuple[BestGraph, "Projector | None", "GraphVerifier | None"]:
    """The graph, and who writes it where it is on a server. One that does not answer yet is waited for by nobody."""
    of_record = RecordGraph(record.reader)
    if settings.neo4j_uri is None:
        if sole:
            await record.graph_queue.end()
        elif working:
            conninfo, end = record.database.conninfo, record.graph_queue.end
            await end_unused(conninfo, GRAPH, end)
            await stack.enter_async_context(_background(end_whenever_unused(conninfo, GRAPH, end)))
        return BestGraph(of_record, record.graph_queue), None, None
    # These load the driver, which takes a moment.
    from apex_mcp.ingestion.projecting import Projector
    from apex_mcp.ingestion.verifying.of_graph import GraphVerifier
    from apex_mcp.stores.graph.neo4j_client import Neo4jClient
    from apex_mcp.stores.graph.neo4j_graph import Neo4jGraph
    from apex_mcp.stores.graph.neo4j_inventory import Neo4jInventory

    client = Neo4jClient.connect(
        settings.neo4j_uri,
        user=settings.neo4j_user,
        password=settings.neo4j_password.get_secret_value() if settings.neo4j_password is not None else "",
        database=settings.neo4j_database,
        breaker=CircuitBreaker("graph", Code.GRAPH_UNAVAILABLE, health),
    )
    stack.push_async_callback(client.close)
    if working and not sole:
        await stack.enter_async_context(_background(use(record.database.conninfo, GRAPH)))
    try:
        await client.verify()
    except Unavailable as error:
        health.note("graph", "down", error.message)
    graph = BestGraph(of_record, record.graph_queue, Neo4jGraph(client, record_id))
    verifier = GraphVerifier(record, Neo4jInventory(client, record_id))
    return graph, Projector(record, client, record_id), verifier


async def _note_reading(stack: AsyncExitStack, record: Record, *, reading: bool, sole: bool) -> None:
    """Note in the record whether a model reads what is committed, for whoever commits: another process may have none."""
    note, conninfo = partial(set_read_by_model, record.database), record.database.conninfo
    if reading or sole:
        await note(reading)
    if sole:
        return
    if reading:
        await stack.enter_async_context(_background(use(conninfo, MODEL, partial(note, True))))
    else:
        await end_unused(conninfo, MODEL, partial(note, False))


def _answers(shared: Shared, record: Record, embedder: Embedder | None) -> AnswerCache | None:
    if shared.verify_redis is None:
        return None
    return AnswerCache(shared.cache, record.database, embedder.name if embedder is not None else None)


def _host(url: str) -> str:
    """Where a server is, without user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def _users_database(settings: Settings) -> str:
    assert settings.database_url is not None, "whoever opens the app starts PostgreSQL where none is set"
    return users_conninfo(settings.database_url.get_secret_value())


async def _own(
    stack: AsyncExitStack, record: Record, settings: Settings, folder: DataFolder, staging: Staging
) -> Ownership:
    conninfo = record.database.conninfo
    if not settings.alone:
        # In turns, so that two who start at once find one mark.
        async with record.index_log.alone(_MARKING, wait_seconds=_MARKING_SECONDS):
            mark = await staging.mark()
        return await stack.enter_async_context(share_record(conninfo, staging=mark))
    ownership = await stack.enter_async_context(own_record(conninfo))
    if settings.qdrant_url is None:
        await take_index(record.index_log, folder.vectors)
    return ownership


def _temporal(settings: Settings, bundled: str | None, record_id: UUID) -> tuple[TemporalPlace, str]:
    if bundled is not None:
        return TemporalPlace(address=bundled), TASK_QUEUE
    return users_temporal(settings), shared_queue(record_id.hex)


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
