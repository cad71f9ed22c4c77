"""Keeps the vector index in step with the record: replay and rebuild at start, flushes, purges, and vectors that are owed."""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.errors import ApexError, Code, Conflict
from apex_mcp.ingestion.embedding.protocol import Embedder, prepare_until_ready
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.purging import Purge
from apex_mcp.stores.record.versions import OwedChunk
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from apex_mcp.stores.vectors.packing import pack

# Searches wait for a flush, so it comes in a pause of the writes, or after a while without one.
_QUIET_SECONDS = 5.0
_UNFLUSHED_SECONDS = 30.0
_AFTER_FAILURE_SECONDS = 2.0
_IDLE_SECONDS = 15.0
_RETRY_SECONDS = 60.0
_EMBED_BATCH = 64
# Longer than any step may take, so that a paused one that wakes up finds its work removed once more.
_SECOND_PASS_SECONDS = 3 * 3600.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


class IndexKeeper:
    """The one who writes to the vector index, and knows how far it goes. Made by `open`.

    Attributes:
        vectors: the index; another object after `reindex`.
        embedder_name: whose vectors the record holds; differs from the embedder's own name until `reindex`.
        owed: number of passages that wait for their vectors, as last counted.
    """

    def __init__(
        self,
        *,
        record: Record,
        folder: Path,
        vectors: EdgeVectorIndex,
        embedder: Embedder | None,
        embedder_name: str | None,
        lost: asyncio.Event,
    ) -> None:
        self.vectors = vectors
        self.embedder_name: str | None = embedder_name
        self.owed = 0
        self._record = record
        self._folder = folder
        self._embedder = embedder
        self._position: str | None = None
        self._writers: dict[int, str | None] = {}
        self._next_writer = 0
        self._last_write = 0.0
        self._dirty = asyncio.Event()
        # The generation of `vectors` that holds all that the record committed; behind it, something was lost.
        self._whole = 0
        self._lost = lost
        self._catching_up = asyncio.Lock()
        self._written = asyncio.Event()
        self._rebuilding = asyncio.Lock()
        # During a reindex: the index before, and whose vectors it holds.
        self._before: tuple[EdgeVectorIndex, str | None] | None = None

    @classmethod
    async def open(cls, *, record: Record, folder: Path, embedder: Embedder | None) -> "IndexKeeper":
        """Open the record's index in `folder`.

        A record without vectors takes over the embedder that is set; one that has some needs `reindex` for another.

        Raises:
            Unavailable: the record or the folder cannot be used.
        """
        identity = await record.index_log.identity()
        name = identity.embedder
        if embedder is not None and name != embedder.name and identity.dimension is None:
            name = embedder.name
            await record.index_log.set_embedder(name)
        current = folder / await record.index_log.index_name()
        lost = asyncio.Event()
        vectors = await EdgeVectorIndex.open(
            current,
            record_id=identity.record_id,
            embedder=name,
            dimension=identity.dimension,
            on_lost=lost.set,
        )
        keeper = cls(
            record=record, folder=folder, vectors=vectors, embedder=embedder, embedder_name=name, lost=lost
        )
        try:
            await keeper._catch_up()
        except BaseException:
            await vectors.abandon()
            raise
        return keeper

    async def close(self) -> None:
        """Flush and release the index."""
        if self._before is not None:
            await self._before[0].close()
        await self.vectors.close()

    @property
    def serving(self) -> tuple[EdgeVectorIndex, str | None]:
        """The index to search in, and the embedder whose vectors it holds."""
        return self._before or (self.vectors, self.embedder_name)

    @property
    def degraded(self) -> str | None:
        """What searches lack while the index is made anew, or None."""
        if self._rebuilding.locked():
            return "the index is being rebuilt from the record: some passages are not found yet"
        if self._whole != self.vectors.generation:
            return "the index is catching up with the record after a failure: some passages are not found yet"
        return None

    @property
    def local_embedder(self) -> Embedder | None:
        """The embedder, where new chunks can have its vectors at once: local, ready, and the record's own."""
        embedder = self._ready_embedder()
        return embedder if embedder is not None and embedder.local else None

    @contextmanager
    def writing(self) -> Generator[None]:
        """Around writes to the index that belong to one commit of the record.

        A flush in between marks the index as complete only up to where the oldest of these began.
        """
        token, self._next_writer = self._next_writer, self._next_writer + 1
        self._writers[token] = self._position
        try:
            yield
        finally:
            del self._writers[token]
            self._last_write = time.monotonic()
            self._dirty.set()
            self._written.set()

    async def run(self) -> None:
        """Rebuild if that is due, flush, purge, embed what is owed and have the index built, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self._rebuild_if_empty, _IDLE_SECONDS))
            tasks.create_task(self._flush_when_dirty())
            tasks.create_task(self._catch_up_when_lost())
            tasks.create_task(self._repeat(self._purge_due, _IDLE_SECONDS))
            tasks.create_task(self._repeat(lambda: self.vectors.maintain(), _IDLE_SECONDS))
            if self._embedder is not None:
                tasks.create_task(self._bring_vectors(self._embedder))

    async def reindex(self) -> AsyncGenerator[tuple[str, int]]:
        """Make the index anew from the record, for the embedder that is set; yields what is done and how far.

        Vectors that the record has are not computed again, so an interrupted run carries on.

        Raises:
            Conflict: one is under way.
        """
        if self._rebuilding.locked():
            raise Conflict(
                "the index is being rebuilt already",
                code=Code.NOT_RETRYABLE,
                next_step="wait until it is done",
            )
        embedder = self._embedder
        name = embedder.name if embedder is not None else None
        if name is not None and name != self.embedder_name:
            await self._record.index_log.set_embedder(name)
        identity = await self._record.index_log.identity()
        folder = self._folder / f"index-{uuid4().hex[:12]}"
        fresh = await EdgeVectorIndex.open(
            folder,
            record_id=identity.record_id,
            embedder=name,
            dimension=identity.dimension,
            on_lost=self._lost.set,
        )
        if embedder is not None and embedder.dimension is not None:
            await fresh.enable_dense(embedder.name, embedder.dimension)
        # Writes go to the new index from now on; the old one answers until the new one is whole.
        self._before = self._before or (self.vectors, self.embedder_name)
        self.vectors, self.embedder_name, self._whole = fresh, name, 0
        await self._record.index_log.set_index_name(folder.name)
        async for done in self._rebuild():
            yield "passages", done
        self._written.set()
        yield "passages that wait for vectors", await self._count_owed()

    async def _count_owed(self) -> int:
        return await self._record.versions.owed(self.embedder_name) if self.embedder_name else 0

    async def flush(self) -> None:
        """Make what was written durable, and note how far the index goes.

        Raises:
            Unavailable: among others, where something was lost that is not written again yet.
        """
        self._dirty.clear()
        try:
            await self._flush()
        except BaseException:
            self._dirty.set()
            raise

    async def _flush(self) -> None:
        position = await self._record.index_log.position()
        began = list(self._writers.values())
        self._position = position
        if self.degraded or self.vectors.position() is None or None in began:
            await self.vectors.flush()
            return
        complete = min([position, *(one for one in began if one is not None)], key=int)
        await self.vectors.flush(complete, generation=self._whole)
        await self._record.index_log.forget_before(complete)

    async def purge_run(self, document_id: UUID, ingestion_id: UUID, claim: UUID) -> None:
        """Remove what a run of an ingestion wrote without committing it; once more later, should a paused step wake up."""
        version_id = ids.version_id(document_id, ingestion_id, claim)
        if await self._record.purges.tombstone(version_id, ingestion_id):
            await self._purge([Purge(version_id=version_id, ingestion_id=ingestion_id)])

    async def _purge(self, purges: Sequence[Purge]) -> None:
        version_ids = [purge.version_id for purge in purges]
        with self.writing():
            await self.vectors.delete_versions(version_ids)
            await self._record.purges.delete_rows(version_ids)
            await self._record.purges.passed(version_ids, again_after_seconds=_SECOND_PASS_SECONDS)

    async def _rebuild_if_empty(self) -> None:
        if self.vectors.position() is None and not self._rebuilding.locked():
            async for _ in self._rebuild():
                pass

    async def _rebuild(self) -> AsyncGenerator[int]:
        """Write every version of the record to the index, then what changed meanwhile; yields the versions done."""
        async with self._rebuilding:
            vectors = self.vectors
            generation = await self._settled(vectors)
            start = await self._record.index_log.position()
            done = 0
            async for page in self._record.index_log.all_versions():
                await self._replay(page)
                done += len(page)
                yield done
            await self._replay_changes(start, vectors, generation)
        await self._forget_before()

    async def _catch_up(self) -> bool:
        """Write to the index what the record has that the index lost; nothing where it must be rebuilt."""
        async with self._catching_up:
            vectors = self.vectors
            generation = await self._settled(vectors)
            position = vectors.position()
            if position is not None:
                await self._replay_changes(position, vectors, generation)
            return True

    async def _settled(self, vectors: EdgeVectorIndex) -> int:
        """The index's generation, when all that may have written to earlier ones have committed or given up.

        Else one whose points were lost could commit after the replay has looked.
        """
        generation = await vectors.ready()
        await self._until_idle(set(self._writers))
        return generation

    async def _replay_changes(self, position: str, vectors: EdgeVectorIndex, generation: int) -> None:
        start = await self._record.index_log.position()
        for page in batches(await self._record.index_log.changed_since(position), 200):
            await self._replay(page)
        # Otherwise a reindex took its place, and some of this went there.
        if vectors is self.vectors:
            await vectors.flush(start, generation=generation)
        if vectors is self.vectors:
            self._position, self._whole = start, generation

    async def _replay(self, version_ids: Sequence[UUID]) -> None:
        """Bring the index to what the record says of these versions now."""
        with self.writing():
            standing = await self._record.index_log.standing(version_ids)
            for some in batches(standing.present, 20):
                await self.vectors.upsert(await self._record.index_log.points(some, self._vectors_of()))
            # Once more, because what became past or was purged meanwhile was just written as current.
            standing = await self._record.index_log.standing(version_ids)
            gone = set(version_ids) - set(standing.present)
            if gone:
                await self.vectors.delete_versions(sorted(gone))
            await self.vectors.retire(standing.retired)

    def _vectors_of(self) -> str | None:
        return self.embedder_name if self.vectors.dimension is not None else None

    async def _forget_before(self) -> None:
        """The new index is whole: end the one before it, and remove what is left of earlier ones."""
        before, self._before = self._before, None
        if before is not None:
            await self._until_idle(set(self._writers))
            await before[0].close()
        current = await self._record.index_log.index_name()
        for place in await asyncio.to_thread(lambda: list(self._folder.glob("index-*"))):
            if place.name != current:
                await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def _until_idle(self, writers: set[int]) -> None:
        while writers & set(self._writers):  # noqa: ASYNC110  (some milliseconds, once a reindex)
            await asyncio.sleep(0.01)

    def _ready_embedder(self) -> Embedder | None:
        embedder = self._embedder
        if embedder is None or embedder.name != self.embedder_name or not embedder.state.ready:
            return None
        return embedder if self.vectors.dimension is not None else None

    async def _bring_vectors(self, embedder: Embedder) -> None:
        """Wait for the embedder, then compute what is owed whenever there is something."""
        await prepare_until_ready(embedder)
        if embedder.dimension is None:
            return  # only the user can help; the embedder's state says how
        if embedder.name == self.embedder_name:
            await self.vectors.enable_dense(embedder.name, embedder.dimension)
        while True:
            self._written.clear()
            self.owed = await self._guarded(self._count_owed()) or 0
            while self.owed and await self._guarded(self._embed_owed()):
                pass
            # What is owed comes with a write, or was left by an embedder that failed for a while.
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS):
                    await self._written.wait()

    async def _flush_when_dirty(self) -> None:
        while True:
            await self._dirty.wait()
            latest = time.monotonic() + _UNFLUSHED_SECONDS
            pause = _QUIET_SECONDS
            while pause > 0:
                await asyncio.sleep(pause)
                pause = min(latest, self._last_write + _QUIET_SECONDS) - time.monotonic()
            await self._guarded(self.flush())

    async def _catch_up_when_lost(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            while not await self._guarded(self._catch_up()):
                pass

    async def _purge_due(self) -> bool:
        due = await self._record.purges.due()
        if due:
            await self._purge(due)
        return bool(due)

    async def _embed_owed(self) -> bool:
        """Vectors of some chunks that lack them; whether there were any."""
        embedder = self._ready_embedder()
        if embedder is None:
            return False
        owed = await self._record.versions.chunks_owed(embedder.name, limit=_EMBED_BATCH)
        if owed:
            vectors = await embedder.embed_documents([chunk.text for chunk in owed])
            packed = [pack(vector) for vector in vectors]
            with self.writing():
                await self._record.versions.add_vectors(embedder.name, owed, packed)
                await self._rewrite(owed)
            self.owed = max(0, self.owed - len(owed))
        return bool(owed)

    async def _rewrite(self, chunks: Sequence[OwedChunk]) -> None:
        """Write points again, now with their vectors; those of a version that went past meanwhile are past again."""
        points = await self._record.index_log.points_of([chunk.id for chunk in chunks], self._vectors_of())
        await self.vectors.upsert(points)
        standing = await self._record.index_log.standing(list({chunk.version_id for chunk in chunks}))
        await self.vectors.retire(standing.retired)
        gone = {chunk.version_id for chunk in chunks} - set(standing.present)
        if gone:
            await self.vectors.delete_versions(sorted(gone))

    async def _repeat(self, work: Callable[[], Awaitable[object]], seconds: float) -> None:
        while True:
            if not await self._guarded(work()):
                await asyncio.sleep(seconds)

    async def _guarded(self, work: Awaitable[T]) -> T | None:
        """Background work goes on after a failure: the record keeps what is owed."""
        try:
            return await work
        except Exception as error:  # noqa: BLE001  (the border of a background task: nobody else would hear of it)
            _log.warning(
                "index upkeep: %s", error.code if isinstance(error, ApexError) else type(error).__name__
            )
            await asyncio.sleep(_AFTER_FAILURE_SECONDS)
            return None
