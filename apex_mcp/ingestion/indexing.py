"""Keeps the vector index in step with the record.

The rules on which everything rests, for one process as for many:

- The index is written before the record commits: points before their version, vectors before they are noted as stored. What
  follows a commit (others are past, or gone) is repeated for whatever changed since the last position, before a new one is
  noted. So from a position on, nothing can be missing that a replay does not bring.
- A commit checks that it wrote to the index in use, and goes to the other one if it did not. So an index is replaced when a
  new one, filled beside it, has all that was committed, in a moment in which nothing is.
- Upkeep is one process's at a time. Which one is a lock in the record; where it dies, the next one goes on from the position.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from apex_mcp import faults, ids
from apex_mcp.batches import batches
from apex_mcp.errors import ApexError, Code, Conflict, Unavailable
from apex_mcp.ingestion.background import repeat
from apex_mcp.ingestion.current_index import LOOK_SECONDS, CurrentIndex
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.index_upkeep import QUIET_SECONDS, TAKEOVER_SECONDS, TIDYING_SECONDS, IndexUpkeep
from apex_mcp.ingestion.leavings import Leavings
from apex_mcp.ingestion.owed_vectors import OwedVectors
from apex_mcp.models import IndexPoint
from apex_mcp.stores.bell import REMOVAL, Bell
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.import_course import Course
from apex_mcp.stores.record.import_plan import ArchivedVersion
from apex_mcp.stores.record.importing import ImportResult
from apex_mcp.stores.record.index_log import REBUILDING, IndexUse
from apex_mcp.stores.record.purging import Purge
from apex_mcp.stores.record.versions import CommitResult, NewVersion
from apex_mcp.stores.vectors.home import IndexHome, KeptIndex

ResultT = TypeVar("ResultT", CommitResult, ImportResult)

_WRITTEN_AGAIN_AT_ONCE = 20
# Between the tries of a commit while another index takes over.
_COMMIT_PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0)


class IndexKeeper:
    """Writes to the vector index in use, and keeps it whole. Made by `open`.

    Attributes:
        meaning: brings passages the vectors that they wait for.
    """

    def __init__(
        self,
        *,
        record: Record,
        home: IndexHome,
        current: CurrentIndex,
        upkeep: IndexUpkeep,
        embedder: Embedder | None,
    ) -> None:
        self.meaning = OwedVectors(record, current, upkeep, embedder, shared=home.shared)
        self._record = record
        self._home = home
        self._current = current
        self._upkeep = upkeep
        self._embedder = embedder

    @classmethod
    async def open(
        cls,
        *,
        record: Record,
        home: IndexHome,
        embedder: Embedder | None,
        quiet_seconds: float = QUIET_SECONDS,
        takeover_seconds: float = TAKEOVER_SECONDS,
        leavings: Leavings | None = None,
    ) -> "IndexKeeper":
        """Open the record's index.

        A record without vectors takes over the embedder that is set; one that has some needs `reindex` for another.

        Args:
            record: PostgreSQL.
            home: where its indexes are.
            embedder: whose vectors new passages get, or None.
            quiet_seconds: how long writes pause before a flush; of a shared index, the time between two.
            takeover_seconds: how often it is looked whether another process has ended its upkeep.
            leavings: what else holds something of what is forgotten.

        Raises:
            Unavailable: the record or the index cannot be used.
        """
        identity = await record.index_log.identity()
        if embedder is not None and identity.embedder != embedder.name and identity.dimension is None:
            await record.index_log.set_embedder(embedder.name)
        current = CurrentIndex(record, home)
        await current.open()
        upkeep = IndexUpkeep(
            record,
            home,
            current,
            quiet_seconds=quiet_seconds,
            takeover_seconds=takeover_seconds,
            leavings=leavings,
        )
        if not home.shared:
            # Nobody else may have brought it up to date.
            try:
                await upkeep.catch_up()
            except BaseException:
                await current.vectors.abandon()
                raise
        return cls(record=record, home=home, current=current, upkeep=upkeep, embedder=embedder)

    async def close(self) -> None:
        """Flush and release the index."""
        await self.vectors.close()

    @property
    def vectors(self) -> KeptIndex:
        """The index in use, as this process last read it; another object when another index takes its place."""
        return self._current.vectors

    @property
    def use(self) -> IndexUse:
        """Which index that is."""
        return self._current.use

    @property
    def embedder_name(self) -> str | None:
        """Whose vectors the record holds; differs from the embedder's own name until `reindex`."""
        return self._current.use.embedder

    @property
    def local_embedder(self) -> Embedder | None:
        """The embedder, where new chunks can have its vectors at once: local, ready, and the record's own."""
        embedder = self.meaning.ready_embedder()
        return embedder if embedder is not None and embedder.local else None

    def lacks(self, use: IndexUse) -> str | None:
        """What searches lack in the index that a snapshot of the record names, or None."""
        if (apart := self._current.apart_from(use)) is not None:
            return apart
        if not use.whole:
            return "the index is being rebuilt from the record: some passages are not found yet"
        vectors = self.vectors
        # Where others use it too, the process that keeps it says so in the record. One without a position is new, unless its
        # engine died.
        known = vectors.position() is not None or vectors.generation > 0
        if not self._home.shared and self._current.whole != vectors.generation and known:
            return "the index is catching up with the record after a failure: some passages are not found yet"
        return None

    def lacked_between(self, before: IndexUse, now: IndexUse) -> str | None:
        """What a search may have lacked that began when one of these was in use, and was over when the other one was."""
        return self.lacks(now if now.losses == before.losses else replace(now, whole=False))

    # --- reading and writing -----------------------------------------------------------------------------------------

    async def follow(self, use: IndexUse) -> KeptIndex:
        """The index to search in for a snapshot of the record; it holds all of the snapshot's, and maybe more.

        Raises:
            Unavailable: another index is in use by now, and cannot be opened.
        """
        if not use.same(self._current.use):
            await self._current.refresh()
        return self.vectors

    @contextmanager
    def writing(self) -> Generator[None]:
        """Around writes to the index that belong to one commit of the record."""
        with self._current.writing():
            yield

    async def commit(
        self,
        points: Sequence[IndexPoint],
        versions: Sequence[NewVersion],
        claim: UUID,
    ) -> CommitResult:
        """Write the hidden points, then commit their versions; again where another index took over meanwhile.

        Raises:
            Unavailable: the index or the record does not answer; the same call may be made again.
        """

        async def write(use: IndexUse, vectors: KeptIndex) -> CommitResult:
            fitting, committed = _fitting(points, versions, use, vectors.dimension)
            with faults.around("index.upsert"):
                await vectors.upsert(fitting)
            with faults.around("record.commit"):
                return await self._record.versions.commit(committed, claim, index=use)

        return await self._in_step(write)

    async def commit_import(
        self,
        points: Sequence[IndexPoint],
        versions: Sequence[ArchivedVersion],
        course: Course,
        *,
        until: int,
        times: Sequence[tuple[int, datetime]],
    ) -> ImportResult:
        """The same for versions out of an archive; what is not stored after all leaves no points.

        Raises:
            Unavailable: the index or the record does not answer; the same call may be made again.
        """

        async def write(use: IndexUse, vectors: KeptIndex) -> ImportResult:
            fitting, fit = _fitting(points, [one.version for one in versions], use, vectors.dimension)
            stored = [replace(one, version=version) for one, version in zip(versions, fit, strict=True)]
            await vectors.upsert(fitting)
            return await self._record.imports.commit(stored, course, until=until, times=times, index=use)

        result = await self._in_step(write)
        if left := [one.version.id for one in versions if one.version.id not in set(result.stored)]:
            await self.vectors.delete_versions(left)
        return result

    async def expect_vectors(self, embedder: str, dimension: int) -> None:
        """Make the index ready for vectors that come before the embedder itself is, if they are the record's embedder's.

        Raises:
            Unavailable: the index does not answer.
        """
        known = self._embedder.dimension if self._embedder is not None else None
        if embedder == self.embedder_name and known in (None, dimension) and self.vectors.dimension is None:
            await self.vectors.enable_dense(embedder, dimension)

    async def _in_step(self, write: Callable[[IndexUse, KeptIndex], Awaitable[ResultT]]) -> ResultT:
        """Write the points to the index in use and then commit; again where another one took over meanwhile."""
        for pause in _COMMIT_PAUSES:
            use, vectors = self._current.use, self.vectors
            try:
                with self.writing():
                    result = await write(use, vectors)
                    if not result.index_replaced:
                        # It is committed, and the next flush brings it.
                        with suppress(Unavailable), faults.around("index.retire"):
                            await vectors.retire(result.retired)
                        return result
            except ApexError:
                # What it wrote to may be gone, because another is in use.
                await self._current.refresh()
                if use.same(self.use):
                    raise
            else:
                await asyncio.sleep(pause)
                await self._current.refresh()
        raise Unavailable(
            "the vector index is being replaced",
            code=Code.VECTORS_UNAVAILABLE,
            unchanged="nothing was committed",
            next_step="the same call works in a moment",
            retry_after_seconds=2,
        )

    async def purge_run(self, document_id: UUID, ingestion_id: UUID, claim: UUID) -> None:
        """Remove what a run of an ingestion wrote without committing it; and again later, should a paused step wake up."""
        version_id = ids.version_id(document_id, ingestion_id, claim)
        try:
            if (purge := await self._record.purges.tombstone(version_id, ingestion_id)) is not None:
                await self._upkeep.purge([purge])
        except ApexError:
            self._upkeep.removal_wanted.set()  # where the removal is owed already, nobody may come here again
            raise

    async def purge(self, purges: Sequence[Purge]) -> None:
        """Remove versions that have a tombstone from the index and from the record. Raises Unavailable."""
        await self._upkeep.purge(purges)

    # --- comparing and mending ---------------------------------------------------------------------------------------

    async def now_in_use(self) -> tuple[KeptIndex, IndexUse]:
        """The index that the record names at this moment.

        Raises:
            Unavailable: the record or that index cannot be used.
        """
        await self._current.refresh()
        return self._current.vectors, self._current.use

    async def settle(self, version_ids: Sequence[UUID]) -> None:
        """Bring to the index what follows the commits of these versions: that they are past, or gone. Raises Unavailable."""
        with self.writing():
            await self._current.replay().settle(version_ids)

    async def write_again(self, version_ids: Sequence[UUID]) -> None:
        """Make the index hold of these versions exactly what the record does; searches may miss them for a moment.

        Raises:
            Unavailable: the record or the index does not answer.
        """
        for some in batches(version_ids, _WRITTEN_AGAIN_AT_ONCE):
            with self.writing():
                await self.vectors.delete_versions(some)
                await self._current.replay().write(some)

    # --- upkeep ------------------------------------------------------------------------------------------------------

    async def run(self, *, upkeep: bool = True, bell: Bell | None = None) -> None:
        """Take part in the index's upkeep and get the embedder ready, until cancelled.

        Args:
            upkeep: False leaves the upkeep to other processes.
            bell: rings when something was forgotten.
        """
        if bell is not None:
            self._upkeep.removal_wanted = bell.listener(REMOVAL)
        async with asyncio.TaskGroup() as tasks:
            if upkeep:
                tasks.create_task(self._upkeep.run())
            if self._home.shared:
                tasks.create_task(repeat("following the index", self._current.look, LOOK_SECONDS))
            if self._embedder is not None:
                tasks.create_task(self.meaning.bring(self._embedder))

    async def flush(self) -> None:
        """Make what was written durable, and note how far the index goes.

        Raises:
            Unavailable: among others, where something was lost that is not written again yet.
        """
        await self._upkeep.flush()

    async def reindex(self) -> AsyncGenerator[tuple[str, int]]:
        """Make the index anew from the record, for the embedder that is set; yields what is done and how far.

        The one in use goes on until the new one has everything. Vectors that the record has are not computed again.

        Raises:
            Conflict: one is under way, in whatever process.
            Unavailable: the record or the index does not answer; nothing has changed.
        """
        async with self._alone_rebuilding():
            await self._current.refresh()
            embedder = self._embedder
            if embedder is not None and not embedder.local and embedder.dimension is None:
                with suppress(ApexError):  # then it tells by its first vectors, later
                    await embedder.prepare()
            name, dimension = (
                (embedder.name, embedder.dimension) if embedder is not None else (self.embedder_name, None)
            )
            async with aclosing(self._upkeep.replace(name, dimension)) as steps:
                async for done in steps:
                    yield "passages", done
        if self._embedder is not None:
            yield "passages that wait for vectors", await self.meaning.count()

    async def renew(self) -> None:
        """Make the index anew from the record, for the vectors that it has: nothing that was removed is in its files then.

        Raises:
            Conflict: it is being made anew already.
            Unavailable: the record or the index does not answer; the one in use goes on.
        """
        async with self._alone_rebuilding():
            await self._current.refresh()
            async for _ in self._upkeep.replace(self.embedder_name, None, afresh=True):
                pass

    @asynccontextmanager
    async def _alone_rebuilding(self) -> AsyncGenerator[None]:
        async with self._record.index_log.alone(REBUILDING, wait_seconds=TIDYING_SECONDS) as alone:
            if not alone:
                raise Conflict(
                    "the index is being rebuilt already",
                    code=Code.ALREADY_RUNNING,
                    next_step="wait until it is done",
                )
            yield


def _fitting(
    points: Sequence[IndexPoint], versions: Sequence[NewVersion], use: IndexUse, dimension: int | None
) -> tuple[Sequence[IndexPoint], Sequence[NewVersion]]:
    """The same without vectors that the index does not take, those of another embedder. They are owed, then."""
    packed_bytes = 4 * dimension if dimension is not None else None
    foreign = {
        version.id
        for version in versions
        if version.vectors is not None
        and (version.embedder != use.embedder or any(len(one) != packed_bytes for one in version.vectors[:1]))
    }
    if not foreign:
        return points, versions
    return (
        [replace(point, dense=None) if point.version_id in foreign else point for point in points],
        [
            replace(version, embedder=None, vectors=None) if version.id in foreign else version
            for version in versions
        ],
    )
