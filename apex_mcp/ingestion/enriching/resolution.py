"""Which of a version's entities are known already under another name.

What shares a name, an alias or the core of a name is linked by the commit itself. Here is what is alike beyond that: vectors
of the names propose, and where a word or a legal form differs the model decides. Two people are never one by a first name.
"""

import asyncio
import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from apex_mcp import ids
from apex_mcp.errors import ApexError
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.enriching.names import PERSON, VALUES, can_be_one, certain, same_words
from apex_mcp.ingestion.enriching.protocol import Doubt
from apex_mcp.models import ExtractedEntity, Extraction
from apex_mcp.stores.record.enrichments import EnrichmentStore, KnownEntity, Link
from apex_mcp.stores.vectors.packing import pack

if TYPE_CHECKING:
    import numpy as np

# Cosine of two names' vectors; tests/ingestion/enriching/test_thresholds.py measures them.
ALIKE = 0.93
DOUBTFUL = 0.70
_CANDIDATES = 3
_SAID = 3
# Some megabytes: what is looked through at a time.
_VECTORS_AT_ONCE = 4_000

# Likeness and entity.
_Near = list[tuple[float, UUID]]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What was found out before a model is asked."""

    links: tuple[Link, ...]
    doubts: tuple[tuple[Link, Doubt], ...]
    vectors: dict[UUID, bytes]


class Resolution:
    """Resolves the entities of one version.

    Args:
        store: knows what is visible in the namespace.
        namespace: where.
        embedder: for candidates by meaning, or None.
    """

    def __init__(self, store: EnrichmentStore, namespace: str, embedder: Embedder | None) -> None:
        self._store = store
        self._namespace = namespace
        self._embedder = embedder

    async def resolve(self, extraction: Extraction) -> Resolved:
        """What is alike enough, and pairs of which only a model can say whether they are one."""
        entities = [entity for entity in extraction.entities if entity.type not in VALUES]
        links: dict[frozenset[UUID], Link] = {}
        doubts: dict[frozenset[UUID], tuple[Link, Doubt]] = {}
        said = _said(extraction)
        for entity, other in await self._namesakes(entities):
            link = Link(name=entity.name, other_id=other.id, reason="model")
            doubts.setdefault(self._pair(link), (link, _doubt(entity, other, said)))
        vectors = await self._vectors(entities)
        for entity, other, likeness in await self._alike(entities, vectors):
            alike = (
                likeness >= ALIKE
                and PERSON not in (entity.type, other.type)
                and same_words(entity.name, other.name)
            )
            link = Link(name=entity.name, other_id=other.id, reason="meaning" if alike else "model")
            if alike:
                links[self._pair(link)] = link
            else:
                doubts.setdefault(self._pair(link), (link, _doubt(entity, other, said)))
        return Resolved(
            links=tuple(links.values()),
            doubts=tuple(doubt for pair, doubt in doubts.items() if pair not in links),
            vectors=vectors,
        )

    async def _namesakes(
        self, entities: Sequence[ExtractedEntity]
    ) -> list[tuple[ExtractedEntity, KnownEntity]]:
        """Pairs that share a name which does not settle it; where it does, the commit links them."""
        names = sorted({name for entity in entities for name in (entity.name, *entity.aliases)})
        known = await self._store.known_by_name(self._namespace, names) if names else {}
        sharing = [
            (entity, shared, other)
            for entity in entities
            for shared in (entity.name, *entity.aliases)
            for other in known.get(shared, ())
        ]
        return [
            (entity, other)
            for entity, shared, other in sharing
            if other.id != self._id(entity.name)
            and not certain(entity.name, entity.type, shared, other.type)
            and can_be_one(entity.name, entity.type, other.name, other.type)
        ] + [
            (entity, replace(other, id=self._id(spelling), name=spelling))
            for entity, shared, other in sharing
            if shared == entity.name and certain(entity.name, entity.type, shared, other.type)
            for spelling in (other.name, *other.aliases)
            if _differ_in_form(entity.name, spelling)
        ]

    async def _vectors(self, entities: Sequence[ExtractedEntity]) -> dict[UUID, bytes]:
        """Vectors of the names; none where no embedder can be asked now, which costs candidates only."""
        embedder = self._embedder
        if embedder is None or not embedder.state.ready or not entities:
            return {}
        try:
            vectors = await embedder.embed_documents([entity.name for entity in entities])
        except ApexError as error:
            _log.warning("names are compared without their meaning: %s", error.code)
            return {}
        return {self._id(entity.name): pack(vector) for entity, vector in zip(entities, vectors, strict=True)}

    async def _alike(
        self, entities: Sequence[ExtractedEntity], vectors: dict[UUID, bytes]
    ) -> list[tuple[ExtractedEntity, KnownEntity, float]]:
        """For each entity the few that are nearest to it among those of its type."""
        if not vectors or self._embedder is None:
            return []
        found: list[tuple[ExtractedEntity, KnownEntity, float]] = []
        for type_ in sorted({entity.type for entity in entities}):
            of_type = [entity for entity in entities if entity.type == type_]
            nearest = await self._nearest(type_, [vectors[self._id(entity.name)] for entity in of_type])
            pairs = zip(of_type, nearest, strict=True)
            for entity, likeness, other_id in ((entity, *near) for entity, some in pairs for near in some):
                # Of one that is known it is not asked again whether it is what it is shown as.
                own = {
                    self._id(entity.name),
                    *(one.id for one in await self._store.known([self._id(entity.name)])),
                }
                found.extend(
                    (entity, other, likeness)
                    for shown in await self._store.known([other_id])
                    if shown.id not in own
                    for other in (_by_itself(shown, other_id),)
                    if can_be_one(entity.name, entity.type, other.name, other.type)
                )
        return found

    async def _nearest(self, type_: str, ours: Sequence[bytes]) -> list[_Near]:
        """For each of our vectors the few of this type that are nearest, the nearest first."""
        assert self._embedder is not None  # it made ours
        found: list[_Near] = [[] for _ in ours]
        last: UUID | None = None
        while True:
            page = await self._store.known_vectors(
                self._namespace, self._embedder.name, type_, after=last, limit=_VECTORS_AT_ONCE
            )
            # Of a model that was changed under its name there may be others, until `reindex`.
            alike = [one for one in page if len(one[1]) == len(ours[0])]
            if alike:
                found = await asyncio.to_thread(_nearer, ours, alike, found)
            if page:
                last = page[-1][0]
            if len(page) < _VECTORS_AT_ONCE:
                return found

    def _id(self, name: str) -> UUID:
        return ids.entity_id(self._namespace, name)

    def _pair(self, link: Link) -> frozenset[UUID]:
        return frozenset((self._id(link.name), link.other_id))


def _differ_in_form(name: str, other: str) -> bool:
    return ids.differ_in_form(
        ids.normalise_name(name), ids.core_name(name), ids.normalise_name(other), ids.core_name(other)
    )


def _by_itself(shown: KnownEntity, id_: UUID) -> KnownEntity:
    """Under its own name, where no more than a likeness makes it one with what it is shown as: that may be wrong."""
    name = dict(shown.likened).get(id_)
    return shown if name is None else replace(shown, id=id_, name=name)


def _nearer(
    ours: Sequence[bytes], others: Sequence[tuple[UUID, bytes]], found: Sequence[_Near]
) -> list[_Near]:
    """What was found, with those of the others that are nearer."""
    import numpy as np

    known = _matrix([vector for _, vector in others])
    nearest: list[_Near] = []
    for row, some in zip(_matrix(ours), found, strict=True):
        cosines = known @ row
        alike: list[int] = np.flatnonzero(cosines >= DOUBTFUL).tolist()
        near = [*some, *((float(cosines[place]), others[place][0]) for place in alike)]
        # One more than wanted: the entity itself may be among them.
        nearest.append(heapq.nlargest(_CANDIDATES + 1, near))
    return nearest


def _matrix(vectors: Sequence[bytes]) -> "np.ndarray":
    import numpy as np

    rows = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def _said(extraction: Extraction) -> dict[str, list[str]]:
    said: dict[str, list[str]] = {}
    for fact in extraction.facts:
        for name in (fact.subject, fact.object):
            sentences = said.setdefault(ids.normalise_name(name), [])
            if fact.sentence not in sentences and len(sentences) < _SAID:
                sentences.append(fact.sentence)
    return said


def _doubt(entity: ExtractedEntity, other: KnownEntity, said: dict[str, list[str]]) -> Doubt:
    return Doubt(
        name=entity.name,
        type=entity.type,
        said=tuple(said.get(ids.normalise_name(entity.name), ())),
        other_name=other.name,
        other_type=other.type,
        other_said=other.said[:_SAID],
    )
