"""Whether searches find the passages that the index holds: it may hold points that its own indexes have lost.

Every point is asked for by the conditions that searches use, and a sample of passages by words of their own. What is not found
at a first look may have been written or replaced between two questions, so it is looked at again.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apex_mcp.batches import batches
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import Holding, IndexFilter, IndexPoint
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.holdings import Due
from apex_mcp.stores.vectors.home import KeptIndex
from apex_mcp.stores.vectors.protocol import MAX_DEPTH

_SAMPLED_VERSIONS = 200
_SAMPLED_PASSAGES = 300
_VERSIONS_AT_ONCE = 20
# The longest words of a passage are as a rule its rarest. What is longer than this is no word.
_WORDS = 5
_LONGEST_WORD = 100
_DEPTH = 200


@dataclass(slots=True)
class Found:
    """What was seen of the index while it was compared.

    Attributes:
        hidden: versions with points that the conditions of searches don't reach.
        sample: some versions, each with the same chance.
    """

    hidden: set[UUID] = field(default_factory=set[UUID])
    sample: list[UUID] = field(default_factory=list[UUID])
    _seen: int = 0

    def look(self, due: Due, held: Counter[Holding]) -> None:
        """Take a version into account."""
        if any(not one.found for one in held):
            self.hidden.add(due.version_id)
        self._seen += 1
        if len(self.sample) < _SAMPLED_VERSIONS:
            self.sample.append(due.version_id)
        elif (place := random.randrange(self._seen)) < _SAMPLED_VERSIONS:
            self.sample[place] = due.version_id


class SearchVerifier:
    """Looks for passages as searches do."""

    def __init__(self, record: Record, index: IndexKeeper) -> None:
        self._record = record
        self._index = index

    async def unfound(self, found: Found, but: Collection[UUID], pauses: Sequence[float]) -> set[UUID]:
        """Versions of which searches don't find all, however often they are looked at.

        Args:
            found: what was seen.
            but: versions of which something else is known to be wrong.
            pauses: before each further look, in seconds.

        Raises:
            Unavailable: the record or the index does not answer.
        """
        hidden, sample = found.hidden.difference(but), set(found.sample).difference(but)
        for pause in (0.0, *pauses):
            await asyncio.sleep(pause)
            vectors, _ = await self._index.now_in_use()
            hidden = await self._hidden(vectors, hidden)
            sample = await self._not_searched(vectors, sample)
            if not hidden and not sample:
                break
        return hidden | sample

    async def _hidden(self, vectors: KeptIndex, suspects: Iterable[UUID]) -> set[UUID]:
        """Which of these have more points that the conditions of searches don't reach than passages without words."""
        hidden: set[UUID] = set()
        for some in batches(sorted(suspects), _VERSIONS_AT_ONCE):
            unreached: Counter[UUID] = Counter()
            async for page in vectors.inventory(some):
                for one, number in page.items():
                    if isinstance(one, Holding) and not one.found:
                        unreached[one.version_id] += number
            wordless: Counter[UUID] = Counter()
            points = await self._record.index_log.points(some, None)
            for point in points:
                wordless[point.version_id] += not _has_words(point.text)
            committed = {point.version_id for point in points}
            hidden |= {one for one in committed if unreached[one] > wordless[one]}
        return hidden

    async def _not_searched(self, vectors: KeptIndex, versions: Collection[UUID]) -> set[UUID]:
        """Which of these have passages that a search by their own words does not find, where and when they are current."""
        missed: set[UUID] = set()
        each = max(1, _SAMPLED_PASSAGES // max(1, len(versions)))
        for some in batches(sorted(versions), _VERSIONS_AT_ONCE):
            due = {one.version_id: one for one in await self._record.holdings.of(some, None)}
            of_version: dict[UUID, list[IndexPoint]] = defaultdict(list)
            for point in await self._record.index_log.points(some, None):
                of_version[point.version_id].append(point)
            for version_id, points in of_version.items():
                if version_id in due:
                    picked = random.sample(points, min(each, len(points)))
                    if not all([await _is_found(vectors, one, due[version_id]) for one in picked]):
                        missed.add(version_id)
        return missed


async def _is_found(vectors: KeptIndex, point: IndexPoint, due: Due) -> bool:
    revision = None
    if due.retired is not None:
        revision, end = due.retired
        if revision >= end:
            return True  # never current
    words = sorted({one for one in point.text.split() if len(one) <= _LONGEST_WORD}, key=len)
    query = " ".join(words[-_WORDS:]) or point.text
    if not _has_words(query):
        return True
    everywhere = IndexFilter(namespace=point.namespace, revision=revision)
    near = IndexFilter(namespace=point.namespace, revision=revision, document_ids=(point.document_id,))
    for where, depth in ((everywhere, _DEPTH), (near, MAX_DEPTH)):
        candidates = await vectors.search_words(query, where, limit=depth)
        if any(one.chunk_id == point.id for one in candidates):
            return True
        if len(candidates) < depth:
            return False
    return True  # so many passages of one document have these words


def _has_words(text: str) -> bool:
    from apex_mcp.stores.vectors.bm25 import embed_query

    return bool(embed_query(text).indices)
