"""Bringing a vector index to what the record says of some versions."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from apex_mcp.batches import batches
from apex_mcp.models import Retirement
from apex_mcp.stores.record.index_log import IndexLog
from apex_mcp.stores.record.passage_vectors import OwedChunk
from apex_mcp.stores.vectors.home import KeptIndex

_VERSIONS_AT_ONCE = 200
_WRITTEN_AT_ONCE = 20


class Replay:
    """From a record's log to an index.

    Args:
        log: the record's side.
        index: what is written to.
        embedder: whose vectors go with the points, where the index takes vectors.
        rewriting: held from reading points in the record until they are written. Whoever gives both a passage's vector holds it
            too: else points that were read before it are written after it.
    """

    def __init__(
        self, log: IndexLog, index: KeptIndex, embedder: str | None, rewriting: asyncio.Lock
    ) -> None:
        self._log = log
        self._index = index
        self._embedder = embedder
        self._rewriting = rewriting

    async def changes(self, position: str) -> tuple[str, int]:
        """Write what changed since a position; the position that the index then has, and the number of versions."""
        start = await self._log.position()
        changed = await self._log.changed_since(position)
        for page in batches(changed, _VERSIONS_AT_ONCE):
            await self.write(page)
        return start, len(changed)

    async def settle_changes(self, position: str) -> tuple[str, int]:
        """As `changes`, where the points of every version were written before it was committed.

        What may be missing then is what follows a commit: that others are past, or gone.
        """
        start = await self._log.position()
        changed = await self._log.changed_since(position)
        for page in batches(changed, _VERSIONS_AT_ONCE):
            await self.settle(page)
        return start, len(changed)

    async def add_vectors(self, chunks: Sequence[OwedChunk], vectors: Sequence[list[float]]) -> None:
        """Write passages again, now with vectors that the record is given afterwards; with `rewriting` held for both."""
        by_id = {chunk.id: vector for chunk, vector in zip(chunks, vectors, strict=True)}
        points = await self._log.points_of(list(by_id), None)
        await self._index.upsert([replace(point, dense=by_id[point.id]) for point in points])
        await self.settle(list({chunk.version_id for chunk in chunks}))

    async def write(self, version_ids: Sequence[UUID]) -> int:
        """Write these versions, and remove those that the record does not hold; the number of passages written."""
        written = 0
        standing = await self._log.standing(version_ids)
        retired = {one.version_id: one for one in standing.retired}
        embedder = self._embedder if self._index.dimension is not None else None
        for some in batches(standing.present, _WRITTEN_AT_ONCE):
            async with self._rewriting:
                points = await self._log.points(some, embedder, self._index.dimension)
                await self._index.upsert([
                    replace(point, retirement=retired.get(point.version_id)) for point in points
                ])
            written += len(points)
        # What became past or was purged meanwhile was just written as it was before.
        await self.settle(version_ids, but=standing.retired)
        return written

    async def settle(self, version_ids: Sequence[UUID], *, but: Sequence[Retirement] = ()) -> None:
        """Bring what follows the commits of these versions: that they are past, or gone; `but` what is there already."""
        standing = await self._log.standing(version_ids)
        gone = set(version_ids) - set(standing.present)
        if gone:
            await self._index.delete_versions(sorted(gone))
        await self._index.retire([one for one in standing.retired if one not in but])
