"""Composition root: from settings to stores, steps and Memory. The only place that names concrete classes."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from temporalio.client import Client

from apex_mcp.ingestion.embedding import open_embedder
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.maintenance import Maintenance
from apex_mcp.ingestion.pool import ChildPool
from apex_mcp.ingestion.staging import LocalStaging
from apex_mcp.ingestion.steps import Steps
from apex_mcp.memory import Memory
from apex_mcp.runtime.home import DataFolder
from apex_mcp.settings import Settings
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.health import Health
from apex_mcp.stores.progress import ProcessProgress
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.vectors.edge import EdgeVectorIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything that one process needs."""

    settings: Settings
    record: Record
    vectors: EdgeVectorIndex
    index: IndexKeeper
    embedder: Embedder | None
    pool: ChildPool
    steps: Steps
    maintenance: Maintenance
    bell: Bell
    health: Health
    memory: Memory
    temporal_client: Client

    async def busy(self) -> bool:
        """Whether ingestions are unfinished.

        Raises:
            Unavailable: the record does not answer.
        """
        return await self.record.ingestions.unfinished() > 0


@asynccontextmanager
async def open_app(
    settings: Settings, *, folder: DataFolder, conninfo: str, temporal_address: str
) -> AsyncGenerator[App]:
    """Open everything over a database and a Temporal server that run.

    Raises:
        Unavailable: one of them does not answer.
        Rejected: a setting or the database's schema does not fit.
    """
    async with AsyncExitStack() as stack:
        record = await stack.enter_async_context(open_record(conninfo))
        client = await _connect(temporal_address)
        embedder = open_embedder(settings, folder.models)
        if embedder is not None:
            stack.push_async_callback(embedder.close)
        pool = ChildPool(size=settings.children, memory_mb=settings.parse_memory_mb, name="parser")
        stack.push_async_callback(pool.close)
        index = await open_index(record, folder.vectors, embedder)
        stack.push_async_callback(index.close)
        tasks = await stack.enter_async_context(background(index.run()))
        bell, health, progress = Bell(), Health(), ProcessProgress()
        staging = LocalStaging(folder.staging)
        shared = {"settings": settings, "record": record, "index": index, "embedder": embedder, "progress": progress}
        yield App(
            settings=settings,
            record=record,
            index=index,
            embedder=embedder,
            pool=pool,
            steps=Steps(**shared, staging=staging, pool=pool),
            maintenance=Maintenance(settings, record, staging),
            bell=bell,
            health=health,
            memory=Memory(**shared, bell=bell, health=health),
            temporal_client=client,
        )
