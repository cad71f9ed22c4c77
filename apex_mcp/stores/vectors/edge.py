"""The vector index of the embedded profile: a Qdrant Edge shard in a process of its own.

    FOLDER/state.json        whose index it is, which shard is in use, how far it goes
    FOLDER/index.lock        held by the process that has the shard
    FOLDER/shard-<random>/   the shard in use, and beside it for a while the copy that is being built

Every engine call holds Python's interpreter lock for as long as it takes, so the engine runs in a child process
(`edge_child.py`) and the daemon never stops for it. One command is under way at a time. Writes go in slices of some
milliseconds and take turns slice by slice, so a search waits for one slice at most. Two things cannot be sliced: opening
(0.1 s for 100,000 points that are built, 1 s for as many that are not), and a flush, which waits for the disk some 65
times, 20 ms in all on a quiet SSD and several 100 ms while others are syncing too.

A crash at any moment leaves the shard as it was flushed last, and what the record writes again heals the rest. When only
the child dies, the next call starts another, and `generation` tells that writes were lost. A folder that is empty,
damaged, of another record, of other vectors or of another format starts again empty, and `position()` is None until the
record has rebuilt it.

The state names the files of the last flush with their lengths, and how many points there are at least. Files that are gone or
cut short, points that are fewer, and an index that finds none of a few points that it holds (`edge_probe.py`) are damage, which
is looked for when the shard is opened, and the first two also before each flush.
"""

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from apex_mcp.batches import batches
from apex_mcp.errors import Invariant, Unavailable
from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement
from apex_mcp.stores.vectors import layout
from apex_mcp.stores.vectors.edge_build import build_in_child
from apex_mcp.stores.vectors.edge_errors import DIED, unavailable
from apex_mcp.stores.vectors.edge_files import State, copy_shard, sync_files
from apex_mcp.stores.vectors.edge_process import EngineProcess

# Some ten to fifty milliseconds of the engine's work.
_UPSERT_SLICE = 100
_VERSIONS_SLICE = 200

T = TypeVar("T")


class EdgeVectorIndex:
    """A `VectorIndex` on one folder, which one process owns. Made by `open`."""

    made: str | None = None

    def __init__(self, process: EngineProcess, folder: Path, thread: ThreadPoolExecutor) -> None:
        self._process = process
        self._folder = folder
        self._thread = thread
        self._writing = asyncio.Lock()
        self._closed = False
        self._building: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        record_id: UUID,
        embedder: str | None,
        dimension: int | None,
        on_lost: Callable[[], None] | None = None,
    ) -> "EdgeVectorIndex":
        """Open the index in `folder`, or start it there.

        Args:
            folder: the index's own; made when it is missing.
            record_id: the record that it is an index of.
            embedder: whose vectors it is given; None for words only, which leaves vectors that are there alone.
            dimension: of these vectors; None while it is not known, see `enable_dense`.
            on_lost: called when `generation` has risen.

        Raises:
            Unavailable: the folder cannot be used.
        """
        wanted = State(record_id=str(record_id), embedder=embedder, dimension=dimension, shard="")
        loop = asyncio.get_running_loop()

        def tell() -> None:
            if on_lost is not None:
                loop.call_soon_threadsafe(on_lost)

        index = cls(
            EngineProcess(folder, wanted, tell), folder, ThreadPoolExecutor(1, thread_name_prefix="vectors")
        )
        try:
            await index.ready()
            if embedder is not None and dimension is not None:
                await index.enable_dense(embedder, dimension)
        except BaseException:
            await index.abandon()
            raise
        return index

    @property
    def dimension(self) -> int | None:
        """Of the dense vectors; None while there are words only."""
        return self._process.state.dimension

    @property
    def generation(self) -> int:
        """How often the engine's process died and lost what was written since the last flush."""
        return self._process.generation

    async def ready(self) -> int:
        """Start the engine's process if it does not run; the generation then.

        Raises:
            Unavailable: it cannot be started.
        """
        await self._ask("ping")
        return self.generation

    async def damage(self) -> str | None:
        """What is wrong with the files, told by their names and lengths; None where nothing is."""
        return await self._ask("damage")

    async def enable_dense(self, embedder: str, dimension: int) -> None:
        """Take this embedder's vectors from now on, in an index that has words only; again changes nothing.

        Raises:
            Invariant: it has vectors of another embedder.
        """
        async with self._writing:
            state = self._process.state
            if (state.embedder, state.dimension) == (embedder, dimension):
                return
            if state.dimension is not None:
                raise Invariant("the index holds the vectors of another embedder")
            await self._change("add_dense", embedder, dimension)

    def position(self) -> str | None:
        """How far the index is durable; None when the record must rebuild it."""
        return self._process.state.position

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Add or replace points, 100 at a time."""
        dimension = self.dimension
        if any(one.dense is not None and len(one.dense) != dimension for one in points):
            raise Invariant("a vector does not have the index's dimension")
        for some in batches(points, _UPSERT_SLICE):
            await self._write("upsert", some)

    async def retire(self, retirements: Sequence[Retirement]) -> None:
        """Mark versions' points as current in their range of revisions only."""
        for one in retirements:
            following = await self._write("retire", one, None)
            while following is not None:
                following = await self._write("retire", one, following)

    async def delete_versions(self, version_ids: Sequence[UUID]) -> None:
        """Remove every point of these versions."""
        for some in batches(version_ids, _VERSIONS_SLICE):
            while await self._write("delete", some):
                pass

    async def delete_points(self, point_ids: Sequence[PointId]) -> None:
        """Remove these points, whatever they are."""
        for some in batches(point_ids, _UPSERT_SLICE):
            await self._write("delete_points", some)

    async def search_words(
        self, query: str, where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by BM25."""
        if limit <= 0:
            return []
        return _candidates(await self._read("search_words", query, where, limit, max(offset, 0)))

    async def search_dense(
        self, vector: Sequence[float], where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by cosine; none while there are words only."""
        if limit <= 0 or self.dimension is None:
            return []
        if len(vector) != self.dimension:
            raise Invariant("a query's vector does not have the index's dimension")
        return _candidates(await self._read("search_dense", vector, where, limit, max(offset, 0)))

    async def count(self, *, namespace: str | None = None, version_id: UUID | None = None) -> int:
        """Number of points, retired ones included."""
        return await self._read("count", namespace, version_id)

    async def version_ids(self) -> set[UUID]:
        """Every version that has a point."""
        return {one.version_id async for page in self.inventory() for one in page if isinstance(one, Holding)}

    async def inventory(
        self, version_ids: Sequence[UUID] | None = None
    ) -> AsyncGenerator[Mapping[Holding | ForeignPoint, int]]:
        """How many points are held how, of every version or of these, in pages."""
        for some in [None] if version_ids is None else batches(version_ids, _VERSIONS_SLICE):
            following: PointId | None = None
            while True:
                held, following = await self._read("inventory_page", some, following)
                yield held
                if following is None:
                    break

    async def flush(self, position: str | None = None, *, generation: int = 0) -> None:
        """Make everything durable, then note `position`.

        Searches wait for it: best when nothing else goes on, and seldom while it does. What a crash loses in between, the
        record replays.

        Args:
            position: how far the index then goes.
            generation: in which everything up to there was written.

        Raises:
            Unavailable: something was lost since, so that the position would not be true.
        """
        async with self._writing:
            await self._change("flush", position, of=None if position is None else generation)

    def filled(self, start: str) -> UUID | None:
        """The last version that was written of the filling that began at this position, as noted; None where nothing was."""
        return layout.read_filled(self._process.state.filled, start)

    async def note_filled(self, version_id: UUID, *, start: str, generation: int) -> None:
        """Make everything durable, then note how far the filling that began at `start` has come.

        Raises:
            Unavailable: something was lost since `generation`, so that it would not be true.
        """
        async with self._writing:
            await self._change("flush", None, layout.filled(start, version_id), of=generation)

    async def needs_build(self) -> bool:
        """Whether searches would gain enough from a build."""
        return await self._ask("needs_build")

    async def maintain(self) -> bool:
        """Build if it is worth it; to be called from time to time. Whether it was."""
        if self._building is not None or not await self.needs_build():
            return False
        await self.build()
        return True

    async def build(self) -> None:
        """Build the graph of the dense vectors and compact the shard, in a process of its own; reads and writes go on.

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
                await self._change("close")
            finally:
                await self.abandon()

    async def abandon(self) -> None:
        """Release the files as they were flushed last."""
        await self._on_thread(self._process.end)
        self._thread.shutdown(wait=False)

    async def _build(self) -> None:
        failed = False
        copy = self._folder / f"shard-{uuid.uuid4().hex[:12]}"
        try:
            async with self._writing:
                await self._change("begin_build")
                old = self._folder / self._process.state.shard
                await _on_disk(partial(copy_shard, old, copy))
            await build_in_child(copy, self.dimension)
            await _on_disk(partial(sync_files, copy))
            await self._take_over(copy.name)
            copy = old
        except Unavailable:
            failed = True
            raise
        finally:
            with contextlib.suppress(Unavailable):
                await self._ask("end_build", failed=failed)
            # Cancelled in the middle of the swap, it has happened all the same.
            if copy.name != self._process.state.shard:
                await asyncio.to_thread(shutil.rmtree, copy, ignore_errors=True)

    async def _take_over(self, name: str) -> None:
        """Bring the built copy up to date, and go on with it."""
        await self._ask("load_built", name)
        # Most of it while writes go on, the rest while they wait.
        left = await self._ask("catch_up")
        for _ in range(left // _UPSERT_SLICE):
            await self._ask("catch_up")
        async with self._writing:
            while await self._ask("catch_up"):
                pass
            await self._change("swap", name)

    async def _write(self, command: str, *arguments: Any) -> Any:
        """Apply one slice."""
        async with self._writing:
            return await self._ask(command, *arguments)

    async def _read(self, command: str, *arguments: Any) -> Any:
        """Ask what changes nothing; of the next process, should this one die over it, which takes a moment."""
        try:
            return await self._ask(command, *arguments)
        except Unavailable as error:
            if error.details.get("cause") != DIED:
                raise
            return await self._ask(command, *arguments)

    async def _ask(self, command: str, *arguments: Any, **named: Any) -> Any:
        return await self._on_thread(partial(self._process.ask, command, *arguments, **named))

    async def _change(self, command: str, *arguments: Any, of: int | None = None) -> None:
        await self._on_thread(partial(self._process.change, command, *arguments, of=of))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        except RuntimeError as error:
            raise unavailable("closed") from error
        return await future


async def _on_disk(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise unavailable(type(error).__name__) from error


def _candidates(plain: Sequence[tuple[bytes, float]]) -> list[Candidate]:
    return [Candidate(chunk_id=UUID(bytes=chunk_id), score=score) for chunk_id, score in plain]
