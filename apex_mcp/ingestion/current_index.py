"""The vector index in use: opened, followed when another takes its place, and written to."""

import asyncio
import copy
import logging
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import LiteralString

from apex_mcp.errors import Code, Unavailable
from apex_mcp.ingestion.index_replay import Replay
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.index_log import IndexUse
from apex_mcp.stores.record.index_positions import Reach
from apex_mcp.stores.vectors.absent import AbsentIndex
from apex_mcp.stores.vectors.home import IndexHome, KeptIndex

_OPENING: LiteralString = "apex-mcp index opening"
_OPENING_SECONDS = 30.0
# After an index could not be opened, so long nobody waits for another try.
_REST_SECONDS = 3.0

_log = logging.getLogger(__name__)

# How often a process that does not keep a shared index looks whether it is an older one.
LOOK_SECONDS = 5.0
_OLDER = "the Qdrant server has an older state of the index: some passages are not found until a worker has brought them"

# A name that no index has.
_NONE = ""
# Cause of an error.
_APART = "another server"
# A generation that no index has.
UNKNOWN = -1


class CurrentIndex:
    """The index that the record names, as this process last read it. `open` comes before all else.

    Attributes:
        vectors: the index; another object when another index takes its place.
        use: its name, whose vectors it holds, and whether it is whole.
        keeping: whether this process does the upkeep: of a shared index no other one makes it anew.
        older: whether this process found, while it did not keep the index, that it lacks more than the record's log tells.
        whole: the generation of `vectors` that is known to hold all that the record committed; behind it, something was lost.
        lost: set when `whole` is behind, or not known.
        dirty: set when something was written since it was cleared last.
        written: set with it, for whoever waits for new passages.
        last_write: when.
        rewriting: see `Replay`.
    """

    vectors: KeptIndex
    use: IndexUse

    def __init__(self, record: Record, home: IndexHome) -> None:
        self.keeping = False
        self.older = False
        self.whole = UNKNOWN
        self.lost = asyncio.Event()
        self.dirty = asyncio.Event()
        self.written = asyncio.Event()
        self.last_write = 0.0
        self.rewriting = asyncio.Lock()
        self._record = record
        self._home = home
        self._following = asyncio.Lock()
        self._writers: set[int] = set()
        self._next_writer = 0
        self._failure: Unavailable | None = None
        self._resting_until = 0.0

    async def open(self) -> None:
        """Open the index that the record names. Where its server does not answer, `refresh` opens it later.

        Raises:
            Unavailable: the record, or an index of this process alone, cannot be used.
        """
        self.use = await self._record.index_log.in_use()
        try:
            self.vectors = await self.open_index(self.use)
        except Unavailable as error:
            if not self._home.shared:
                raise
            self._rest(error)
            self.vectors, self.use = AbsentIndex(error), replace(self.use, name=_NONE)
        await self.look()

    async def look(self) -> None:
        """See whether a server came back with an older state of the index; while nobody keeps it, nobody else would tell.

        Where the record or the server does not answer, that is as it was.
        """
        vectors, positions = self.vectors, self._record.index_positions
        if not self._home.shared or self.keeping or self.use.made is None:
            return
        with suppress(Unavailable):
            # The index may be flushed, and then the log cut, at any moment.
            before = await positions.reach()
            await vectors.ready()
            after = await positions.reach()
            if vectors is self.vectors and not self.keeping and vectors.position() is not None:
                self.older = not Reach(before.begins, after.until).holds(vectors.position())

    def apart_from(self, use: IndexUse) -> str | None:
        """What is wrong where this process was seen not to have an index on its server, or an older one; None where it has it."""
        if self.older and use.same(self.use):
            return _OLDER
        failure = self._failure
        if failure is None or use.same(self.use) or failure.details.get("cause") != _APART:
            return None
        return failure.message

    async def refresh(self, *, deciding: bool = False) -> bool:
        """Go on with the index that the record names now; whether it is another one. Never within `writing`.

        While it cannot be opened, one caller at a time tries, with pauses; the others are told at once why.

        Args:
            deciding: of the upkeep, which goes on with the index of that name, whichever it is, and has the record mean it next.
                Until then nobody searches in it, and nothing is committed with it.

        Raises:
            Unavailable: the record or that index cannot be used.
        """
        if not deciding:
            self._fail_if_resting(trying=self._following.locked())
        async with self._following:
            if not deciding:
                self._fail_if_resting()
            use = await self._record.index_log.in_use()
            if use.same(self.use):
                self.use = use
                self._failure = None
                return False
            before = self._take(use, await self._try(use, deciding=deciding))
        await self._let_go(before)
        await self.look()
        return True

    @asynccontextmanager
    async def switching(self, use: IndexUse, vectors: KeptIndex, *, whole: int) -> AsyncGenerator[None]:
        """Around putting in use an index that this process has open already, whole in this generation; it goes on with it then.

        Nobody here opens it a second time meanwhile: an embedded one takes one process alone.
        """
        async with self._following:
            yield
            before = self._take(use, vectors)
            self.brought_up_to_date(whole)
        await self._let_go(before)

    async def open_index(
        self, use: IndexUse, dimension: int | None = None, *, deciding: bool = False
    ) -> KeptIndex:
        """Open an index, or make it; for vectors of this length, or of those that the record has.

        Raises:
            Unavailable: it cannot be used, or is not the one that is meant, unless this process is `deciding` which one is.
        """
        if not self._home.shared:
            return await self._open(use, dimension)
        # One process makes it, the others find it made.
        async with self._record.index_log.alone(_OPENING, wait_seconds=_OPENING_SECONDS):
            vectors = await self._open(use, dimension)
        if use.made not in (None, vectors.made) and not deciding:
            raise _apart()
        return vectors

    async def note_made(self) -> None:
        """Have the record mean the index of this process. It comes before the mending, which is of what was committed until then.

        Raises:
            Unavailable: the record does not answer.
        """
        async with self._following:
            use = replace(self.use, made=self.vectors.made)
            await self._record.index_log.set_made(use.name, use.made)
            self.use = use

    def replay(self) -> Replay:
        """From the record's log to this index."""
        return Replay(self._record.index_log, self.vectors, self.use.embedder, self.rewriting)

    @contextmanager
    def writing(self) -> Generator[None]:
        """Around writes to the index that belong to one commit of the record."""
        token, self._next_writer = self._next_writer, self._next_writer + 1
        self._writers.add(token)
        try:
            yield
        finally:
            self._writers.discard(token)
            self.last_write = time.monotonic()
            self.dirty.set()
            self.written.set()

    async def flush(self, vectors: KeptIndex, position: str, *, generation: int) -> bool:
        """Have an index go as far as `position`, and the record know that before; False where it is not the record's any more.

        Raises:
            Unavailable: the record does not answer, or the index lost something since `generation`.
        """
        if vectors is not self.vectors:
            return False
        noted = await self._record.index_positions.note(self.use, position, reached=vectors.position())
        if noted:
            await vectors.flush(position, generation=generation)
        return noted

    def brought_up_to_date(self, generation: int) -> None:
        """The index in use holds in this generation all that the record committed."""
        self.whole, self.older = generation, False

    async def settled(self) -> int:
        """The index's generation, when all that may have written to earlier ones have committed or given up.

        Else one whose points were lost could commit after a replay has looked.
        """
        generation = await self.vectors.ready()
        await self._until_idle(set(self._writers))
        return generation

    async def _try(self, use: IndexUse, *, deciding: bool) -> KeptIndex:
        try:
            return await self.open_index(use, deciding=deciding)
        except Unavailable as error:
            self._rest(error)
            raise
        except asyncio.CancelledError:
            # As a rule of a search, which waits for a few seconds only.
            self._rest(_slow())
            raise

    def _rest(self, error: Unavailable) -> None:
        if self._failure is None:
            _log.warning("%s; %s", error.message, error.next_step)
        self._failure = copy.copy(error).with_traceback(None)
        self._resting_until = time.monotonic() + _REST_SECONDS

    def _fail_if_resting(self, *, trying: bool = False) -> None:
        if self._failure is not None and (trying or time.monotonic() < self._resting_until):
            raise copy.copy(self._failure)

    async def _open(self, use: IndexUse, dimension: int | None) -> KeptIndex:
        log = self._record.index_log
        identity = await log.identity()
        return await self._home.open(
            use.name,
            record_id=identity.record_id,
            embedder=use.embedder,
            dimension=dimension or await log.dimension(use.embedder),
            on_lost=self.lost.set,
            on_empty=partial(self._before_it_is_made, use),
        )

    async def _before_it_is_made(self, use: IndexUse) -> None:
        # The mark may have been given since this index was opened.
        made = self.use.made if use.name == self.use.name else use.made
        if made is not None and not self.keeping:
            raise _apart()
        await self._record.index_log.note_loss(use.name)

    def _take(self, use: IndexUse, vectors: KeptIndex) -> KeptIndex:
        if None not in (use.made, vectors.made):
            use = replace(use, made=vectors.made)
        before, self.vectors, self.use, self.whole = self.vectors, vectors, use, UNKNOWN
        self._failure, self.older = None, False
        self.lost.set()
        self.written.set()
        return before

    async def _let_go(self, before: KeptIndex) -> None:
        await self._until_idle(set(self._writers))
        try:
            await before.close()
        except Unavailable as error:
            # Nobody needs it any more; it may have been replaced for that very reason.
            _log.warning("the index before could not be closed well: %s", error.code)

    async def _until_idle(self, writers: set[int]) -> None:
        while writers & self._writers:  # noqa: ASYNC110  (some milliseconds, once a reindex)
            await asyncio.sleep(0.01)


def _apart() -> Unavailable:
    return Unavailable(
        "the Qdrant server at APEX_QDRANT_URL does not have the index that the memory uses",
        code=Code.VECTORS_UNAVAILABLE,
        unchanged="nothing was written to it; the record is complete without it",
        next_step="see that every process of the memory is given the same one; if so, the index was lost, and a worker makes it "
        "again by itself",
        retry_after_seconds=_REST_SECONDS,
        details={"cause": _APART},
    )


def _slow() -> Unavailable:
    return Unavailable(
        "the vector index cannot be opened in time",
        code=Code.VECTORS_UNAVAILABLE,
        unchanged="the record is complete without it",
        next_step="see that the Qdrant server runs and can be reached at APEX_QDRANT_URL; it is tried again by itself",
        retry_after_seconds=_REST_SECONDS,
    )
