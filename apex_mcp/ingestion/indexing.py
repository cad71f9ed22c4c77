"""Keeps the vector index in step with the record: replay and rebuild at start, flushes, purges, and vectors that are owed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.errors import ApexError
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.embedding.vectors import pack
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.purging import Purge
from apex_mcp.stores.vectors.edge import EdgeVectorIndex

_FLUSH_SECONDS = 2.0
_IDLE_SECONDS = 15.0
_EMBED_BATCH = 64
# Longer than any step may take, so that a paused one that wakes up finds its work removed once more.
_SECOND_PASS_SECONDS = 900.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


class IndexKeeper:
    """The one who writes to the vector index, and knows how far it goes.

    Args:
        record: PostgreSQL.
        vectors: the index.
        embedder: whose vectors new chunks get, or None.
        embedder_name: whose vectors the record holds; differs from the embedder's until `reindex`.
    """

    def __init__(
        self, *, record: Record, vectors: EdgeVectorIndex, embedder: Embedder | None, embedder_name: str | None
    ) -> None:
        self.vectors = vectors
        self.embedder = embedder_name
        self._record = record
        self._embedder = embedder
        self._position: str | None = None
        self._writers: dict[int, str | None] = {}
        self._next_writer = 0
        self._dirty = asyncio.Event()
        self._rebuilding = False

    @property
    def degraded(self) -> str | None:
        """What searches lack while the index is made anew, or None."""
        return "the index is being rebuilt from the record: some passages are not found yet" if self._rebuilding else None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around writes to the index that belong to one commit of the record.

        A flush in between marks the index as complete only up to where the oldest of these began.
        """
        token, self._next_writer = self._next_writer, self._next_writer + 1
        self._writers[token] = self._position
        try:
            yield
        finally:
            del self._writers[token]
            self._dirty.set()

    async def catch_up(self) -> None:
        """Bring the index to the record's state: replay what is later than its own position, or all of it."""
        start = await self._record.index_log.position()
        known = self.vectors.position()
        self._rebuilding = known is None
        try:
            if known is None:
                async for page in self._record.index_log.all_versions():
                    await self._replay(page)
            else:
                for page in batches(await self._record.index_log.changed_since(known), 200):
                    await self._replay(page)
        finally:
            self._rebuilding = False
        self._position = start
        await self.vectors.flush(start)
        await self._record.index_log.forget_before(start)

    async def run(self) -> None:
        """Flush, purge, embed what is owed and have the index built, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._flush_when_dirty())
            tasks.create_task(self._repeat(self._purge_due, _IDLE_SECONDS))
            tasks.create_task(self._repeat(self.vectors.maintain, _IDLE_SECONDS))
            if self._embedder is not None:
                tasks.create_task(self._repeat(self._embed_owed, _FLUSH_SECONDS))

    async def flush(self) -> None:
        """Make what was written durable, and note how far the index goes."""
        self._dirty.clear()
        position = await self._record.index_log.position()
        oldest = [began for began in self._writers.values()]
        if None not in oldest:
            complete = min([position, *(began for began in oldest if began is not None)], key=int)
            await self.vectors.flush(complete)
            await self._record.index_log.forget_before(complete)
        self._position = position

    async def purge_run(self, document_id: UUID, ingestion_id: UUID, claim: UUID) -> None:
        """Remove everything that one run of an ingestion wrote; once more later, should a paused step wake up."""
        version_id = ids.version_id(document_id, ingestion_id, claim)
        await self._record.purges.tombstone(version_id, ingestion_id)
        await self._purge([Purge(version_id=version_id, ingestion_id=ingestion_id)])

    async def _purge(self, purges: Sequence[Purge]) -> None:
        version_ids = [purge.version_id for purge in purges]
        with self.writing():
            await self.vectors.delete_versions(version_ids)
            await self._record.purges.delete_rows(version_ids)
            await self._record.purges.passed(version_ids, again_after_seconds=_SECOND_PASS_SECONDS)

    async def _replay(self, version_ids: Sequence[UUID]) -> None:
        standing = await self._record.index_log.standing(version_ids)
        gone = set(version_ids) - set(standing.present)
        with self.writing():
            if gone:
                await self.vectors.delete_versions(sorted(gone))
            for some in batches(standing.present, 20):
                await self.vectors.upsert(await self._record.index_log.points(some, self.embedder))
            await self.vectors.retire(standing.retired)

    async def _flush_when_dirty(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_FLUSH_SECONDS)
            await self._guarded(self.flush())

    async def _purge_due(self) -> bool:
        due = await self._record.purges.due()
        if due:
            await self._purge(due)
        return bool(due)

    async def _embed_owed(self) -> bool:
        """Vectors of some chunks that lack them; whether there were any."""
        embedder = self._embedder
        if embedder is None or not embedder.state.ready or embedder.name != self.embedder:
            return False
        owed = await self._record.versions.chunks_owed(embedder.name, limit=_EMBED_BATCH)
        if owed:
            vectors = await embedder.embed_documents([chunk.text for chunk in owed])
            packed = [pack(vector) for vector in vectors]
            with self.writing():
                complete = await self._record.versions.add_vectors(embedder.name, owed, packed)
                await self._replay(complete)
        return bool(owed)

    async def _repeat(self, work: Callable[[], Awaitable[object]], seconds: float) -> None:
        while True:
            if not await self._guarded(work()):
                await asyncio.sleep(seconds)

    async def _guarded(self, work: Awaitable[T]) -> T | None:
        """Background work goes on after a failure: the record keeps what is owed."""
        try:
            return await work
        except ApexError as error:
            _log.warning("index upkeep: %s", error.code)
            await asyncio.sleep(_FLUSH_SECONDS)
            return None
