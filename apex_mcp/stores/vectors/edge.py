"""The vector index of the embedded profile: a Qdrant Edge shard in the daemon's process.

    FOLDER/state.json        whose index it is, which shard is in use, how far it goes
    FOLDER/shard-<random>/   the shard in use, and beside it for a while the copy that is being built

Every engine call holds Python's interpreter lock for as long as it takes. So all of them run in slices of some
milliseconds on one thread of the index's own: searches come between the slices of a large write, and the shard is never
used by two threads. Writers take turns slice by slice. Two things cannot be sliced: opening (0.1 s for 100,000 points
that are built, 1 s for as many that are not), and a flush, which waits for the disk some 65 times, 20 ms in all on a
quiet SSD and several 100 ms while others are syncing too.

A crash at any moment leaves the shard as it was flushed last, and what the record writes again heals the rest. A folder
that is empty, damaged, of another record, of other vectors or of another format starts again empty, and `position()`
is None until the record has rebuilt it.
"""

import asyncio
import logging
import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from qdrant_edge import Point

from apex_mcp.batches import batches
from apex_mcp.errors import ApexError, Code, Invariant, Unavailable
from apex_mcp.models import Candidate, IndexFilter, IndexPoint, Retirement
from apex_mcp.stores.vectors.edge_build import build_in_child
from apex_mcp.stores.vectors.edge_files import State, copy_shard, read_state, sync_files
from apex_mcp.stores.vectors.edge_shard import Shard, point

# Slices, each a few to twenty milliseconds of the engine's work.
_UPSERT_SLICE = 100
_RETIRE_SLICE = 50
_DELETE_SLICE = 200
_VERSIONS_SLICE = 200
_SCROLL_SLICE = 1_000
# The engine is flushed between slices, so that no flush has too much to write.
_FLUSH_AFTER = 10_000
# A build is worth its minutes when so many points, and so large a part of all, changed since the last.
_BUILD_AFTER = 20_000
_BUILD_PART = 0.2

T = TypeVar("T")
_log = logging.getLogger(__name__)


class EdgeVectorIndex:
    """A `VectorIndex` on one folder, which one process owns. Made by `open`."""

    def __init__(self, folder: Path, state: State, shard: Shard, thread: ThreadPoolExecutor) -> None:
        self._folder = folder
        self._state = state
        self._shard = shard
        self._thread = thread
        self._writing = asyncio.Lock()
        self._closed = False
        self._dirty = 0
        self._changed = state.changed
        # Ids written since the copy was taken that is being built.
        self._touched: set[UUID] | None = None
        self._building: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, folder: Path, *, record_id: UUID, embedder: str | None, dimension: int | None
    ) -> "EdgeVectorIndex":
        """Open the index in `folder`, or start it there.

        Args:
            folder: the index's own; made when it is missing.
            record_id: the record that it is an index of.
            embedder: whose vectors it is given; None for words only, which leaves vectors that are there alone.
            dimension: of these vectors; None while it is not known, see `enable_dense`.

        Raises:
            Unavailable: the folder cannot be used.
        """
        wanted = State(record_id=str(record_id), embedder=embedder, dimension=dimension, shard=_new_name())
        thread = ThreadPoolExecutor(1, thread_name_prefix="vectors")
        try:
            state, shard = await _run(thread, partial(_open, folder, wanted))
        except BaseException:
            thread.shutdown(wait=False)
            raise
        index = cls(folder, state, shard, thread)
        if embedder is not None and dimension is not None:
            await index.enable_dense(embedder, dimension)
        return index

    @property
    def dimension(self) -> int | None:
        """Of the dense vectors; None while there are words only."""
        return self._state.dimension

    async def enable_dense(self, embedder: str, dimension: int) -> None:
        """Take this embedder's vectors from now on, in an index that has words only; again changes nothing.

        Raises:
            Invariant: it has vectors of another embedder.
        """
        async with self._writing:
            if (self._state.embedder, self._state.dimension) == (embedder, dimension):
                return
            if self._state.dimension is not None:
                raise Invariant("the index holds the vectors of another embedder")
            self._state = await self._engine(partial(self._add_dense, embedder, dimension))

    def position(self) -> str | None:
        """How far the index is durable; None when the record must rebuild it."""
        return self._state.position

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Add or replace points, 100 at a time."""
        dimension = self._state.dimension
        if any(one.dense is not None and len(one.dense) != dimension for one in points):
            raise Invariant("a vector does not have the index's dimension")
        for some in batches(points, _UPSERT_SLICE):
            ready = await asyncio.to_thread(_engine_points, some)
            await self._write([one.id for one in some], lambda shard, ready=ready: shard.upsert(ready))

    async def retire(self, retirements: Sequence[Retirement]) -> None:
        """Mark versions' points as current in their range of revisions only."""
        for one in retirements:
            following: UUID | None = None
            while True:
                ids, following = await self._engine(
                    partial(self._page, [one.version_id], _RETIRE_SLICE, following)
                )
                if ids:
                    await self._write(ids, lambda shard, ids=ids, one=one: shard.retire(ids, one))
                if following is None:
                    break

    async def delete_versions(self, version_ids: Sequence[UUID]) -> None:
        """Remove every point of these versions."""
        for some in batches(version_ids, _VERSIONS_SLICE):
            while ids := (await self._engine(partial(self._page, some, _DELETE_SLICE)))[0]:
                await self._write(ids, lambda shard, ids=ids: shard.delete(ids))

    async def search_words(
        self, query: str, where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by BM25."""
        if limit <= 0:
            return []
        return await self._engine(
            lambda: self._shard.search_words(query, where, limit=limit, offset=max(offset, 0))
        )

    async def search_dense(
        self, vector: Sequence[float], where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by cosine; none while there are words only."""
        if limit <= 0 or self._state.dimension is None:
            return []
        if len(vector) != self._state.dimension:
            raise Invariant("a query's vector does not have the index's dimension")
        return await self._engine(
            lambda: self._shard.search_dense(vector, where, limit=limit, offset=max(offset, 0))
        )

    async def count(self, *, namespace: str | None = None, version_id: UUID | None = None) -> int:
        """Number of points, retired ones included."""
        return await self._engine(lambda: self._shard.count(namespace, version_id))

    async def version_ids(self) -> set[UUID]:
        """Every version that has a point."""
        versions: set[UUID] = set()
        following: UUID | None = None
        while True:
            found, following = await self._engine(partial(self._version_page, following))
            versions |= found
            if following is None:
                return versions

    async def flush(self, position: str | None = None) -> None:
        """Make everything durable, then note `position`.

        The whole process stands still for it: best when nothing else goes on, and seldom while it does. What a crash loses
        in between, the record replays.
        """
        async with self._writing:
            if self._dirty or position not in (None, self._state.position):
                self._state = await self._engine(partial(self._flush, position))

    async def needs_build(self) -> bool:
        """Whether searches would gain enough from a build."""
        size = await self._engine(lambda: self._shard.size())
        return self._changed > max(_BUILD_AFTER, _BUILD_PART * size)

    async def maintain(self) -> bool:
        """Build if it is worth it; to be called from time to time. Whether it was."""
        if self._building is not None or not await self.needs_build():
            return False
        await self.build()
        return True

    async def build(self) -> None:
        """Build the graph of the dense vectors and compact the shard, in a child process; reads and writes go on.

        Writes wait for as long as copying the shard takes, a second or so.

        Raises:
            Unavailable: it did not work; the index goes on as it is, and asks for a build again later.
        """
        if self._building is None:
            self._building = asyncio.create_task(self._build())
        try:
            await self._building
        finally:
            self._building = None

    async def close(self) -> None:
        """End a build that is under way, flush, and release the files."""
        if self._building is not None:
            self._building.cancel()
            await asyncio.wait([self._building])
        async with self._writing:
            if self._closed:
                return
            self._closed = True
            try:
                if self._dirty:
                    self._state = await self._engine(partial(self._flush, None))
            finally:
                await self._engine(lambda: self._shard.close())
                self._thread.shutdown(wait=False)

    async def _engine(self, work: Callable[[], T]) -> T:
        return await _run(self._thread, work)

    async def _write(self, ids: Sequence[UUID], work: Callable[[Shard], None]) -> None:
        """Apply one slice."""
        async with self._writing:
            await self._engine(partial(self._apply, ids, work))

    # What follows runs on the engine's thread.

    def _apply(self, ids: Sequence[UUID], work: Callable[[Shard], None]) -> None:
        if self._touched is not None:
            self._touched.update(ids)
        self._changed += len(ids)
        self._dirty += len(ids)
        work(self._shard)
        if self._dirty >= _FLUSH_AFTER:
            self._shard.flush()
            self._dirty = 1  # the state is yet to be written

    def _flush(self, position: str | None) -> State:
        self._shard.flush()
        state = replace(
            self._state,
            points=self._shard.size(),
            changed=self._changed,
            position=self._state.position if position is None else position,
        )
        state.write(self._folder)
        self._dirty = 0
        return state

    def _add_dense(self, embedder: str, dimension: int) -> State:
        self._shard.add_dense(dimension)
        state = replace(self._state, embedder=embedder, dimension=dimension)
        state.write(self._folder)
        return state

    def _page(
        self, version_ids: Sequence[UUID], limit: int, start: UUID | None = None
    ) -> tuple[list[UUID], UUID | None]:
        return self._shard.page(version_ids, limit=limit, start=start)

    def _version_page(self, start: UUID | None) -> tuple[set[UUID], UUID | None]:
        return self._shard.version_page(limit=_SCROLL_SLICE, start=start)

    def _catch_up(self, built: Shard, touched: set[UUID]) -> None:
        built.take(self._shard, [touched.pop() for _ in range(min(len(touched), _UPSERT_SLICE))])

    def _swap(self, built: Shard, name: str) -> Shard:
        """Go on with the built shard, on disk and here; gives the old one. All or nothing, so in one go."""
        built.flush()
        state = replace(self._state, shard=name, points=built.size(), changed=self._changed)
        state.write(self._folder)
        old, self._shard, self._state = self._shard, built, state
        self._dirty = 0
        return old

    # And this on the event loop again.

    async def _build(self) -> None:
        name = _new_name()
        copy = self._folder / name
        forgiven = self._changed
        try:
            async with self._writing:
                self._state = await self._engine(partial(self._flush, None))
                forgiven, self._touched = self._changed, set()
                await asyncio.to_thread(
                    _translated, partial(copy_shard, self._folder / self._state.shard, copy)
                )
            await build_in_child(copy, self._state.dimension)
            await asyncio.to_thread(_translated, partial(sync_files, copy))
            self._changed -= forgiven
            forgiven = 0
            await self._take_over(name, self._touched)
        except Unavailable:
            self._changed -= forgiven  # not again at once: what failed now would fail then too
            raise
        finally:
            self._touched = None
            if name != self._state.shard:
                await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)

    async def _take_over(self, name: str, touched: set[UUID]) -> None:
        """Bring the built copy up to date, and go on with it."""
        built = await self._engine(partial(Shard.load, self._folder / name))
        old_folder = self._folder / self._state.shard
        try:
            # Most of it while writes go on, the rest while they wait.
            for _ in range(len(touched) // _UPSERT_SLICE):
                await self._engine(partial(self._catch_up, built, touched))
            async with self._writing:
                while touched:
                    await self._engine(partial(self._catch_up, built, touched))
                old = await self._engine(partial(self._swap, built, name))
        except BaseException:
            # Cancelled in the middle of the swap, it has happened all the same.
            await self._engine(lambda: built.close() if self._shard is not built else None)
            raise
        await self._engine(old.close)
        await asyncio.to_thread(shutil.rmtree, old_folder, ignore_errors=True)


def _open(folder: Path, wanted: State) -> tuple[State, Shard]:
    folder.mkdir(parents=True, exist_ok=True)
    state = read_state(folder)
    shard = _load(folder, state) if state is not None and _fits(state, wanted) else None
    if state is None or shard is None:
        state, shard = wanted, Shard.create(folder / wanted.shard, wanted.dimension)
        state.write(folder)
    for leftover in folder.glob("shard-*"):
        if leftover.name != state.shard:
            shutil.rmtree(leftover, ignore_errors=True)
    return state, shard


def _fits(state: State, wanted: State) -> bool:
    same_vectors = state.embedder == wanted.embedder and wanted.dimension in (None, state.dimension)
    return state.record_id == wanted.record_id and (
        state.dimension is None or wanted.embedder is None or same_vectors
    )


def _load(folder: Path, state: State) -> Shard | None:
    try:
        shard = _translated(partial(Shard.load, folder / state.shard))
        if state.points and not shard.size():
            shard.close()
            raise _unavailable()
    except Unavailable as error:
        _log.warning("the vector index is damaged and will be rebuilt (%s)", type(error.__cause__).__name__)
        return None
    return shard


def _engine_points(points: Sequence[IndexPoint]) -> list[Point]:
    return [point(one) for one in points]


def _new_name() -> str:
    return f"shard-{uuid.uuid4().hex[:12]}"


async def _run(thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    try:
        future = asyncio.get_running_loop().run_in_executor(thread, partial(_translated, work))
    except RuntimeError as error:
        raise _unavailable() from error  # closed
    return await future


def _translated(work: Callable[[], T]) -> T:
    """The one place where the engine's and the disk's errors become ours."""
    try:
        return work()
    except (ApexError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the engine's panics are no Exceptions
        raise _unavailable() from error


def _unavailable() -> Unavailable:
    return Unavailable(
        "the vector index does not work now",
        code=Code.VECTORS_UNAVAILABLE,
        unchanged="the record is complete without it",
        next_step="try again; `apex-mcp doctor` looks for the reason (a full disk is the most frequent one)",
    )
