"""The vector index compared with the record, page by page, while both are written to.

What differs at a first look may have been written between the two questions. So it is looked at again, after what changed in
the record meanwhile was brought to the index, and counts only if it differs each time. A point that is as no version's are was
never written so, and counts at once.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.verifying.findings import VECTORS, Finding, finding
from apex_mcp.ingestion.verifying.of_searches import Found, SearchVerifier
from apex_mcp.models import ForeignPoint, Holding, PointId
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.holdings import Due
from apex_mcp.stores.record.import_course import IMPORTING
from apex_mcp.stores.vectors.home import KeptIndex

FILES = "the index's files are as they were written"
FOUND = "passages are found by their words"
MISSING = "versions have all their points"
EXTRA = "versions have no points but theirs"
MARKS = "past versions are marked as past, current ones are not"
DENSE = "points have the vectors that the record has"
ORPHANS = "points are of versions that the record holds, or that are being written"
_NEXT_STEP = "`apex-mcp verify --repair` or `apex-mcp reindex vectors` makes the index anew"
_DIFFERENCES = (MISSING, EXTRA, MARKS, DENSE, ORPHANS)

# Between the looks: longer than a commit takes from its points to its end.
_PAUSES_SECONDS = (0.2, 1.0, 2.0)
_WHOLE_SECONDS = 120.0
_LOOK_SECONDS = 0.5


@dataclass(slots=True)
class _Seen:
    """What was compared, and which versions differ in what."""

    versions: int = 0
    points: int = 0
    differing: dict[str, set[UUID]] = field(
        default_factory=lambda: {what: set[UUID]() for what in _DIFFERENCES}
    )
    foreign: set[PointId] = field(default_factory=set[PointId])
    searches: Found = field(default_factory=Found)
    unfound: set[UUID] = field(default_factory=set[UUID])

    def __bool__(self) -> bool:
        return bool(self.all_differing or self.foreign)

    def found(self, what: str) -> set[PointId]:
        """What is shown: versions, and of points that are of none themselves."""
        return {*self.differing[what], *(self.foreign if what == ORPHANS else ())}

    @property
    def not_comparable_by_searches(self) -> set[UUID]:
        """Versions that searches rightly find otherwise than the record says."""
        return set[UUID]().union(*(self.differing[what] for what in (MISSING, EXTRA, MARKS, ORPHANS)))

    @property
    def all_differing(self) -> set[UUID]:
        return set[UUID]().union(*self.differing.values())


class VectorVerifier:
    """Compares the index in use.

    Args:
        record: PostgreSQL.
        index: the vector index and its keeper.
        whole_seconds: how long an index that is being filled is waited for.
    """

    def __init__(self, record: Record, index: IndexKeeper, *, whole_seconds: float = _WHOLE_SECONDS) -> None:
        self._record = record
        self._index = index
        self._whole_seconds = whole_seconds
        self._searches = SearchVerifier(record, index)

    async def run(self, *, repair: bool) -> AsyncGenerator[Finding]:
        """Yield each comparison.

        Raises:
            Unavailable: the record or the index does not answer.
        """
        yield await self._files(repair=repair)
        if (lack := await self._waits_for()) is not None:
            yield Finding(
                store=VECTORS, what="the index holds all of the record", differs=1, left=1, note=lack
            )
            return
        before = after = await self._compare(remove_foreign=repair)
        if repair and before.unfound:
            await self._index.renew()
            after = await self._compare()
        if repair and after:
            await self._mend(after)
            after = await self._compare()
        yield finding(VECTORS, FOUND, compared=before.points, before=before.unfound, after=after.unfound)
        for what in _DIFFERENCES:
            yield finding(
                VECTORS,
                what,
                compared=before.points if what == ORPHANS else before.versions,
                before=before.found(what),
                after=after.found(what),
            )

    async def remove_orphans(self) -> int:
        """Remove points that are of no version, unless they may be an import's that goes on; of how many there were some.

        Raises:
            Unavailable: the record or the index does not answer.
        """
        vectors, _ = await self._index.now_in_use()
        seen = _Seen()
        await self._find_orphans(vectors, seen, remove_foreign=True)
        found = await self._still(seen.differing[ORPHANS], _PAUSES_SECONDS)
        return len(seen.foreign) + await self._remove(found.differing[ORPHANS])

    async def _files(self, *, repair: bool) -> Finding:
        """What is broken is not repaired in place: another index takes its place."""
        vectors, _ = await self._index.now_in_use()
        damage = left = await vectors.damage()
        if damage and repair:
            await self._index.renew()
            left = await self._index.vectors.damage()
        return Finding(
            store=VECTORS,
            what=FILES,
            compared=1,
            differs=int(damage is not None),
            left=int(left is not None),
            note=f"{damage}; {_NEXT_STEP}" if damage and left else damage or "",
        )

    async def _waits_for(self) -> str | None:
        """What the index lacks as a whole, once it was waited for: while it is filled, all that is not there yet differs."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._whole_seconds
        while True:
            vectors, use = await self._index.now_in_use()
            lack = self._index.lacks(use)
            if lack is None and vectors.position() is None:
                lack = "the index is being filled from the record"
            if lack is None or loop.time() > deadline:
                return lack
            await asyncio.sleep(_LOOK_SECONDS)

    async def _compare(self, *, remove_foreign: bool = False) -> _Seen:
        vectors, use = await self._index.now_in_use()
        embedder = use.embedder if vectors.dimension is not None else None
        first = _Seen()
        async for due in self._record.holdings.every(embedder):
            first.versions += len(due)
            await _compare_due(vectors, due, first)
        await self._find_orphans(vectors, first, remove_foreign=remove_foreign)
        found = await self._still(first.all_differing, _PAUSES_SECONDS)
        unfound = await self._searches.unfound(
            first.searches, found.not_comparable_by_searches, _PAUSES_SECONDS
        )
        async with self._orphans_for_sure(found.differing[ORPHANS]) as orphans:
            found.differing[ORPHANS] = orphans
        return _Seen(
            versions=first.versions,
            points=first.points,
            differing=found.differing,
            foreign=first.foreign,
            unfound=unfound,
        )

    async def _find_orphans(self, vectors: KeptIndex, seen: _Seen, *, remove_foreign: bool) -> None:
        async for page in vectors.inventory():
            seen.points += sum(page.values())
            versions = list({one.version_id for one in page if isinstance(one, Holding)})
            seen.differing[ORPHANS] |= await self._record.holdings.unaccounted(versions)
            foreign = [one.point_id for one in page if isinstance(one, ForeignPoint)]
            seen.foreign.update(foreign)
            if remove_foreign and foreign:
                # At once, and here: a moment later, or in the next index, a version's point may have that id.
                with self._index.writing():
                    await vectors.delete_points(foreign)

    async def _still(self, suspects: set[UUID], pauses: Iterable[float]) -> _Seen:
        """Which of these differ however often they are looked at."""
        seen = _Seen()
        for pause in pauses:
            if not suspects:
                return _Seen()
            await asyncio.sleep(pause)
            vectors, use = await self._index.now_in_use()
            await self._settle(vectors, suspects)
            # The index first: what is written in between is in the record's answer.
            held = await _held(vectors, suspects)
            embedder = use.embedder if vectors.dimension is not None else None
            due = {one.version_id: one for one in await self._record.holdings.of(list(suspects), embedder)}
            seen = _Seen()
            for one in due.values():
                _compare_one(one, held[one.version_id], seen)
            unknown = [one for one in suspects - due.keys() if held[one]]
            seen.differing[ORPHANS] = await self._record.holdings.unaccounted(unknown)
            suspects = seen.all_differing
        return seen

    async def _settle(self, vectors: KeptIndex, suspects: set[UUID]) -> None:
        """What upkeep would bring to the index sooner or later."""
        position = vectors.position()
        if position is None:
            return
        changed = suspects.intersection(await self._record.index_log.changed_since(position))
        if changed:
            await self._index.settle(sorted(changed))

    async def _mend(self, seen: _Seen) -> None:
        orphans = seen.differing[ORPHANS]
        try:
            await self._remove(orphans)
            await self._index.write_again(sorted(seen.all_differing - orphans))
        finally:
            await self._record.index_log.note_mended(self._index.use.name)

    async def _remove(self, suspects: Collection[UUID]) -> int:
        async with self._orphans_for_sure(suspects) as orphans:
            if orphans:
                with self._index.writing():
                    await self._index.vectors.delete_versions(sorted(orphans))
            return len(orphans)

    @asynccontextmanager
    async def _orphans_for_sure(self, suspects: Collection[UUID]) -> AsyncGenerator[set[UUID]]:
        """Those of these that are of nobody to the end of the block: none while an archive is imported, as they may be its."""
        if not suspects:
            yield set()
            return
        async with self._record.index_log.alone(IMPORTING) as alone:
            # Asked anew: an import may have begun since they were seen, and ended by now.
            yield await self._record.holdings.unaccounted(sorted(suspects)) if alone else set()


async def _held(vectors: KeptIndex, version_ids: Iterable[UUID]) -> dict[UUID, Counter[Holding]]:
    held: dict[UUID, Counter[Holding]] = defaultdict(Counter)
    async for page in vectors.inventory(sorted(version_ids)):
        for one, number in page.items():
            if isinstance(one, Holding):
                held[one.version_id][one] += number
    return held


async def _compare_due(vectors: KeptIndex, due: list[Due], seen: _Seen) -> None:
    held = await _held(vectors, [one.version_id for one in due])
    for one in due:
        _compare_one(one, held[one.version_id], seen)
        seen.searches.look(one, held[one.version_id])


def _compare_one(due: Due, held: Counter[Holding], seen: _Seen) -> None:
    points = held.total()
    found = {
        MISSING: points < due.points,
        EXTRA: points > due.points,
        MARKS: any(one.retired != due.retired for one in held),
        DENSE: points >= due.points
        and sum(number for one, number in held.items() if one.dense) < due.vectors,
    }
    for what, differs in found.items():
        if differs:
            seen.differing[what].add(due.version_id)
