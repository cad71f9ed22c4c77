"""Composition root: from settings to stores, steps and Memory. The only place that names concrete classes."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from temporalio.api.failure.v1 import Failure
from temporalio.client import Client
from temporalio.converter import DataConverter, DefaultFailureConverter, PayloadConverter
from temporalio.service import RPCError

from apex_mcp.errors import Code, Unavailable
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
from apex_mcp.stores.vectors.protocol import VectorIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """Everything that one process needs."""

    settings: Settings
    record: Record
    index: IndexKeeper
    embedder: Embedder | None
    pool: ChildPool
    steps: Steps
    maintenance: Maintenance
    bell: Bell
    health: Health
    memory: Memory
    temporal_client: Client

    @property
    def vectors(self) -> VectorIndex:
        return self.index.vectors

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
        index = await IndexKeeper.open(record=record, folder=folder.vectors, embedder=embedder)
        stack.push_async_callback(index.close)
        bell, health, progress = Bell(), Health(), ProcessProgress()
        staging = LocalStaging(folder.staging)
        await stack.enter_async_context(_background(index.run()))
        yield App(
            settings=settings,
            record=record,
            index=index,
            embedder=embedder,
            pool=pool,
            steps=Steps(
                settings=settings, record=record, index=index, staging=staging, pool=pool, progress=progress
            ),
            maintenance=Maintenance(settings, record, staging),
            bell=bell,
            health=health,
            memory=Memory(
                settings=settings,
                record=record,
                index=index,
                embedder=embedder,
                progress=progress,
                bell=bell,
                health=health,
            ),
            temporal_client=client,
        )


class _CodesOnly(DefaultFailureConverter):
    """Failures go to Temporal as codes: a stack trace holds paths, and may hold values."""

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: Failure
    ) -> None:
        super().to_failure(exception, payload_converter, failure)
        one = failure
        while True:
            one.stack_trace = ""
            if not one.HasField("cause"):
                return
            one = one.cause


async def _connect(address: str) -> Client:
    try:
        converter = replace(DataConverter.default, failure_converter_class=_CodesOnly)
        return await Client.connect(address, data_converter=converter)
    except (RPCError, RuntimeError) as error:
        raise Unavailable(
            "Temporal does not answer",
            code=Code.TEMPORAL_UNAVAILABLE,
            next_step="`apex-mcp doctor` shows what is wrong",
            retry_after_seconds=2,
        ) from error


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
