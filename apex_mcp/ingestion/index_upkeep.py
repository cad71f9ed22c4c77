"""What keeps the vector index whole: replay, rebuild, replacement, flushes and purges. One process of a record does it."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import LiteralString
from uuid import UUID, uuid4

from apex_mcp import faults
from apex_mcp.ingestion.background import AFTER_FAILURE_SECONDS, guarded, repeat
from apex_mcp.ingestion.current_index import UNKNOWN, CurrentIndex
from apex_mcp.ingestion.index_filling import IndexFilling
from apex_mcp.ingestion.index_replay import Replay
from apex_mcp.ingestion.leavings import Leavings
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.index_fillings import Filling
from apex_mcp.stores.record.index_log import REBUILDING, IndexUse
from apex_mcp.stores.record.purging import Purge
from apex_mcp.stores.record.session_lock import SessionLock
from apex_mcp.stores.vectors.home import IndexHome

# Searches of the embedded index wait for a flush, so it comes in a pause of the writes, or after a while without one.
QUIET_SECONDS = 5.0
_UNFLUSHED_SECONDS = 30.0
_IDLE_SECONDS = 15.0
_TIDY_SECONDS = 60.0
# Removing old indexes takes the lock of whoever fills one, for a moment.
TIDYING_SECONDS = 3.0
_IDLE_TIDY_SECONDS = 3600.0
TAKEOVER_SECONDS = 3.0
# A new index takes over when so few versions changed since it was last brought up to date; commits fail meanwhile.
_FEW = 20
_ROUNDS = 20
# An interrupted filling takes disk, and keeps the record's log from being cut.
_GIVEN_UP_AFTER = timedelta(days=1)
# A step that was under way, or was paused, may write once more: most end within the first of these, all within the second.
_FURTHER_PASSES_SECONDS = (60.0, 3 * 3600.0)

_UPKEEP: LiteralString = "apex-mcp index upkeep"


class IndexUpkeep:
    """The upkeep of one record's index.

    Args:
        record: PostgreSQL.
        home: where its indexes are.
        current: the one in use.
        quiet_seconds: how long writes pause before a flush; of a shared index, the time between two.
        takeover_seconds: how often it is looked whether another process has ended its upkeep.
        leavings: what else holds something of what is forgotten.
    """

    def __init__(
        self,
        record: Record,
        home: IndexHome,
        current: CurrentIndex,
        *,
        quiet_seconds: float = QUIET_SECONDS,
        takeover_seconds: float = TAKEOVER_SECONDS,
        leavings: Leavings | None = None,
    ) -> None:
        self.removal_wanted = asyncio.Event()
        self._record = record
        self._home = home
        self._current = current
        self._quiet_seconds = quiet_seconds
        self._takeover_seconds = takeover_seconds
        self._leavings = leavings

    @property
    def keeping(self) -> bool:
        """Whether this process does it now."""
        return self._current.keeping

    async def run(self) -> None:
        """Do the upkeep, of a shared index for as long as no other process does; until cancelled."""
        if not self._home.shared:
            await self._keep()
        while True:
            await guarded("keeping the index", self._keep_in_turn())

    async def mend(self) -> bool:
        """Bring the index to what the record says; False where that is to be tried again, as another process changes it.

        Raises:
            Unavailable: the record or the index does not answer.
        """
        current = self._current
        await current.refresh(deciding=True)
        generation = await current.vectors.ready()
        if self._home.shared:
            # Whoever does the upkeep decides which one is in use, and nobody else.
            await current.note_made()
        if await self._outdated():
            return await self._rebuild()
        if self._home.shared and (current.whole not in (UNKNOWN, generation) or await self._older()):
            await self._note_whole(whole=False)
        if not await self.catch_up():
            return False
        # Of a process that ended before it could say so.
        await self._record.index_fillings.end(current.use.name)
        await self._note_whole(whole=True)
        return True

    async def catch_up(self) -> bool:
        """Write to the index what it may lack of what the record committed since its position; nothing if it has none.

        Returns:
            Whether it has all of it now.

        Raises:
            Unavailable: the record or the index does not answer.
        """
        current = self._current
        vectors = current.vectors
        generation = await current.settled()
        position = vectors.position()
        if position is None or await self._outdated():
            # Said before anybody searches: it is a moment until the rebuilding begins.
            if await self._record.index_log.has_versions():
                await self._note_whole(whole=False)
            return False
        with current.writing():
            start, _ = await current.replay().changes(position)
        if not await current.flush(vectors, start, generation=generation) or vectors is not current.vectors:
            return False
        current.brought_up_to_date(generation)
        await self._record.index_log.forget_before(start)
        return True

    async def flush(self) -> None:
        """Make what was written durable, and note how far the index goes.

        Raises:
            Unavailable: among others, where something was lost that is not written again yet.
        """
        self._current.dirty.clear()
        try:
            with faults.around("index.flush"):
                await self._flush()
        except BaseException:
            self._current.dirty.set()
            raise

    async def replace(
        self, embedder: str | None, dimension: int | None, *, afresh: bool = False
    ) -> AsyncGenerator[int]:
        """Fill another index beside the one in use, and let it take over; yields the passages done. With `REBUILDING` held.

        Args:
            embedder: whose vectors it holds; those of others go from the record too.
            dimension: of these, where it is known; the record's may have another, from before the model was changed.
            afresh: begin with an empty one, also where an earlier filling was interrupted.

        Raises:
            Unavailable: the record or an index does not answer; the one in use goes on.
        """
        log, current = self._record.index_log, self._current
        begun = await self._begun_beside()
        if begun is not None and (afresh or begun.embedder != embedder):
            await self._home.remove(begun.name)
            begun = None
        use = IndexUse(name=begun.name if begun else f"index-{uuid4().hex[:12]}", embedder=embedder)
        fresh = await current.open_index(use, dimension)
        try:
            if embedder is not None and dimension is not None:
                await fresh.enable_dense(embedder, dimension)
            generation = await fresh.ready()
            use = replace(use, made=fresh.made)
            replay = Replay(log, fresh, embedder, current.rewriting)
            filling = await IndexFilling.begin(self._record, fresh, use, begun, generation=generation)
            async with aclosing(filling.write(replay)) as steps:
                async for done in steps:
                    yield done
            start = filling.start
            for _ in range(_ROUNDS):
                start, changed = await replay.changes(start)
                if changed <= _FEW:
                    break
            async with current.switching(use, fresh, whole=generation), log.replacing() as connection:
                start, _ = await replay.changes(start)
                await fresh.flush(start, generation=generation)
                await log.put_in_use(connection, use, position=start, dimension=dimension)
        except BaseException:
            if current.vectors is not fresh:
                await fresh.abandon()
            raise
        if embedder is not None:
            await log.drop_vectors_of_others(embedder)
        await log.begin_at(start)
        await self._home.remove_others(use.name)

    async def purge(self, purges: Sequence[Purge]) -> None:
        """Remove versions from the index, what was forgotten of them from wherever else it is, then from the record.

        Raises:
            Unavailable: one of them does not answer.
        """
        version_ids = [purge.version_id for purge in purges]
        forgotten = [purge for purge in purges if purge.forgets]
        await self._current.refresh()
        with self._current.writing():
            with faults.around("index.delete"):
                await self._current.vectors.delete_versions(version_ids)
            if forgotten and self._leavings is not None:
                await self._leavings.remove(forgotten)
            forgettings = [purge.forgetting_id for purge in forgotten if purge.forgetting_id is not None]
            if forgettings:
                await self._remove_given_up(forgettings)
            with faults.around("record.purge_rows"):
                await self._record.purges.delete_rows(version_ids)
                await self._record.purges.delete_documents(forgotten)
            with faults.around("record.purge_passed"):
                await self._record.purges.passed(version_ids, again_after_seconds=_FURTHER_PASSES_SECONDS)

    # --- in turn -----------------------------------------------------------------------------------------------------

    async def _keep_in_turn(self) -> None:
        turns = self._record.index_log.alone(
            _UPKEEP, wait_seconds=float("inf"), poll_seconds=self._takeover_seconds
        )
        async with turns as turn:
            await self._keep_while(turn)

    async def _keep_while(self, turn: SessionLock) -> None:
        self._current.whole = UNKNOWN
        keeping = asyncio.create_task(self._keep())
        try:
            while not keeping.done() and await turn.stands():
                await asyncio.wait([keeping], timeout=self._takeover_seconds)
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def _keep(self) -> None:
        self._current.keeping = True
        self._current.lost.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._mend_when_lost())
                tasks.create_task(self._flush_regularly() if self._home.shared else self._flush_when_dirty())
                tasks.create_task(self._purge_whenever_due())
                tasks.create_task(
                    repeat("maintaining the index", lambda: self._current.vectors.maintain(), _IDLE_SECONDS)
                )
                tasks.create_task(self._tidy_now_and_then())
        finally:
            self._current.keeping = False

    async def _mend_when_lost(self) -> None:
        current = self._current
        while True:
            await current.lost.wait()
            current.lost.clear()
            if await guarded("mending the index", self.mend()):
                current.written.set()
                await guarded("tidying up the index", self._tidy())
            else:
                await asyncio.sleep(AFTER_FAILURE_SECONDS / 2)
                current.lost.set()

    async def _flush_regularly(self) -> None:
        """Others write too, and what the server has may change under our hands."""
        while True:
            await asyncio.sleep(self._quiet_seconds)
            await guarded("looking at the index", self._look())
            await guarded("flushing the index", self.flush())

    async def _look(self) -> None:
        await self._current.refresh(deciding=True)
        await self._current.vectors.ready()

    async def _flush_when_dirty(self) -> None:
        current = self._current
        while True:
            await current.dirty.wait()
            latest = time.monotonic() + _UNFLUSHED_SECONDS
            pause = self._quiet_seconds
            while pause > 0:
                await asyncio.sleep(pause)
                pause = min(latest, current.last_write + self._quiet_seconds) - time.monotonic()
            await guarded("flushing the index", self.flush())

    async def _purge_whenever_due(self) -> None:
        while True:
            self.removal_wanted.clear()
            while await guarded("removing from the index", self._purge_due()):
                pass
            with suppress(TimeoutError):
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self.removal_wanted.wait()

    async def _purge_due(self) -> bool:
        due = await self._record.purges.due()
        if due:
            await self.purge(due)
        return bool(due)

    async def _tidy_now_and_then(self) -> None:
        """Not at first: mending tidies up as well, and may have to make a new index."""
        while True:
            await asyncio.sleep(_TIDY_SECONDS if self._home.shared else _IDLE_TIDY_SECONDS)
            await guarded("tidying up the index", self._tidy())

    async def _tidy(self) -> None:
        """Remove indexes that are not in use, unless one is being filled, or was and may be gone on with."""
        async with self._record.index_log.alone(REBUILDING) as alone:
            if not alone:
                return
            begun = await self._begun_beside()
            if begun is not None and datetime.now(UTC) - begun.since > _GIVEN_UP_AFTER:
                await self._record.index_fillings.give_up_beside()
                begun = None
            in_use = await self._record.index_log.in_use()
            await self._home.remove_others(in_use.name, *([begun.name] if begun else []))

    # --- rebuilding --------------------------------------------------------------------------------------------------

    async def _outdated(self) -> bool:
        """Whether the record's log does not tell what the index lacks."""
        return not (await self._record.index_positions.reach()).holds(self._current.vectors.position())

    async def _older(self) -> bool:
        """Whether the index may be an older state of itself, which was put back."""
        return (await self._record.index_positions.reach()).goes_beyond(self._current.vectors.position())

    async def _remove_given_up(self, forgettings: Sequence[UUID]) -> None:
        """Remove what an interrupted filling left, as it may hold what was forgotten; one under way hears of it by itself."""
        name = await self._record.index_fillings.give_up_beside(forgettings)
        if name is None:
            return
        async with self._record.index_log.alone(REBUILDING, wait_seconds=TIDYING_SECONDS) as alone:
            if alone:
                await self._home.remove(name)

    async def _rebuild(self) -> bool:
        """Fill an index that is empty, or make another one in the place of one that cannot be trusted."""
        async with self._record.index_log.alone(REBUILDING, wait_seconds=TIDYING_SECONDS) as alone:
            if not alone:
                return False
            await self._current.refresh()
            if not await self._outdated():
                # Another process made it meanwhile: what it lacks since is told by the log.
                return False
            await self._note_whole(whole=False)
            if self._current.vectors.position() is None:
                if not await self._fill():
                    return False
            else:
                async for _ in self.replace(self._current.use.embedder, None):
                    pass
            await self._note_whole(whole=True)
        return True

    async def _begun_beside(self) -> Filling | None:
        """A filling of another index than the one in use that was interrupted."""
        begun = await self._record.index_fillings.begun()
        return begun if begun and begun.name != (await self._record.index_log.in_use()).name else None

    async def _fill(self) -> bool:
        """Write every version of the record to the index in use, then what changed meanwhile; whether it has all of it now."""
        record, current = self._record, self._current
        vectors, replay = current.vectors, current.replay()
        generation = await current.settled()
        with current.writing():
            begun = await record.index_fillings.begun()
            if begun is not None and begun.name != current.use.name:
                await self._home.remove(begun.name)
            filling = await IndexFilling.begin(record, vectors, current.use, begun, generation=generation)
            async for _ in filling.write(replay):
                pass
            start, _ = await replay.changes(filling.start)
        if not await current.flush(vectors, start, generation=generation) or vectors is not current.vectors:
            return False
        current.brought_up_to_date(generation)
        await record.index_fillings.end(current.use.name)
        await record.index_log.begin_at(start)
        return True

    async def _flush(self) -> None:
        current = self._current
        vectors, generation, position = current.vectors, current.whole, current.vectors.position()
        if position is None or generation != vectors.generation:
            await vectors.flush()
            return
        start, changed = await current.replay().settle_changes(position)
        if vectors is not current.vectors or (self._home.shared and not changed):
            return
        if await current.flush(vectors, start, generation=generation):
            await self._record.index_log.forget_before(start)
        else:
            # What was committed by then may be in another one, or the record is an older one.
            current.lost.set()

    async def _note_whole(self, *, whole: bool) -> None:
        await self._record.index_log.set_whole(replace(self._current.use, whole=whole))
        self._current.use = replace(self._current.use, whole=whole)
