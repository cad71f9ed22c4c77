"""Filling an index with every version of the record. Where that was interrupted, it goes on with the versions that lack."""

import time
from collections.abc import AsyncGenerator
from uuid import UUID

from apex_mcp.ingestion.index_replay import Replay
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.index_fillings import Filling
from apex_mcp.stores.record.index_log import IndexUse
from apex_mcp.stores.vectors.home import KeptIndex

# An embedded index is flushed for it.
_NOTED_EVERY_SECONDS = 2.0
_VERSIONS_AT_ONCE = 20


class IndexFilling:
    """One index's filling. Made by `begin`.

    Attributes:
        start: the position from which on changes are to be replayed to it once it has every version.
    """

    def __init__(
        self, record: Record, vectors: KeptIndex, *, start: str, generation: int, after: UUID | None
    ) -> None:
        self.start = start
        self._record = record
        self._vectors = vectors
        self._generation = generation
        self._after = after

    @classmethod
    async def begin(
        cls, record: Record, vectors: KeptIndex, use: IndexUse, begun: Filling | None, *, generation: int
    ) -> "IndexFilling":
        """Begin it, or go on with one of this index that was interrupted. With `REBUILDING` held.

        That one goes on from its own start also where nothing was noted: the index may hold what was removed by now.

        Args:
            record: PostgreSQL.
            vectors: the index: the one in use, an empty one, or the one that was begun.
            use: its name, and whose vectors it is given.
            begun: the filling that was interrupted, read since `REBUILDING` is held.
            generation: of the index: what is written from now on counts as long as it lasts.

        Raises:
            Unavailable: the record does not answer.
        """
        if begun is not None and begun.name == use.name:
            after = vectors.filled(begun.start)
        else:
            begun, after = await record.index_fillings.begin(use), None
        return cls(record, vectors, start=begun.start, generation=generation, after=after)

    async def write(self, replay: Replay) -> AsyncGenerator[int]:
        """Write the versions; yields how many passages the index has.

        Raises:
            Unavailable: the record or the index does not answer, or the index lost something.
        """
        vectors, noted = self._vectors, time.monotonic()
        done = await vectors.count() if self._after else 0
        async for page in self._record.index_log.all_versions(after=self._after, page=_VERSIONS_AT_ONCE):
            done += await replay.write(page)
            if time.monotonic() - noted > _NOTED_EVERY_SECONDS:
                await vectors.note_filled(page[-1], start=self.start, generation=self._generation)
                noted = time.monotonic()
            yield done
