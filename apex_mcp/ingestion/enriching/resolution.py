"""Which of a version's entities are known already under another name.

First what is certain: a shared name, alias or core of a name. Then what is alike in meaning: the names' vectors propose, and only
where they leave a doubt the model decides. Two people are never one by a first name.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING
from uuid import UUID

from apex_mcp import ids
from apex_mcp.errors import ApexError
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.enriching.names import PERSON, VALUES, can_be_one, certain
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
        """Links that are certain, and pairs of which only a model can say whether they are one."""
        entities = [entity for entity in extraction.entities if entity.type not in VALUES]
        links = {_pair(link, self._namespace): link for link in self._within(entities)}
        doubts: dict[frozenset[UUID], tuple[Link, Doubt]] = {}
        said = _said(extraction)
        known = await self._store.known_by_name(
            self._namespace, sorted({name for entity in entities for name in (entity.name, *entity.aliases)})
        )
        for entity in entities:
            for shared in (entity.name, *entity.aliases):
                for other in known.get(shared, ()):
                    self._judge(entity, shared, other, said, links, doubts)
        vectors = await self._vectors(entities)
        for entity, other, likeness in await self._alike(entities, vectors):
            alike = likeness >= ALIKE and PERSON not in (entity.type, other.type)
            link = Link(name=entity.name, other_id=other.id, reason="meaning" if alike else "model")
            pair = _pair(link, self._namespace)
            if len(pair) == 1 or pair in links:
                continue
            if alike:
                links[pair] = link
                doubts.pop(pair, None)
            else:
                doubts.setdefault(pair, (link, _doubt(entity, other, said)))
        return Resolved(links=tuple(links.values()), doubts=tuple(doubts.values()), vectors=vectors)

    def _within(self, entities: Sequence[ExtractedEntity]) -> Iterable[Link]:
        """Two spellings of one name in one document."""
        for one, other in combinations(entities, 2):
            names = {ids.normalise_name(name): name for name in (one.name, *one.aliases)}
            shared = [name for name in (other.name, *other.aliases) if ids.normalise_name(name) in names]
            if any(certain(one.name, one.type, name, other.type) for name in shared):
                yield Link(name=one.name, other_id=self._id(other.name), reason="alias")
            elif one.type == other.type == "Organization" and _same_core(one.name, other.name):
                yield Link(name=one.name, other_id=self._id(other.name), reason="name")

    def _judge(
        self,
        entity: ExtractedEntity,
        shared: str,
        other: KnownEntity,
        said: dict[str, list[str]],
        links: dict[frozenset[UUID], Link],
        doubts: dict[frozenset[UUID], tuple[Link, Doubt]],
    ) -> None:
        by_core = shared == entity.name and _same_core(shared, other.name)
        link = Link(name=entity.name, other_id=other.id, reason="name" if by_core else "alias")
        pair = _pair(link, self._namespace)
        if len(pair) == 1 or pair in links:
            return
        if certain(entity.name, entity.type, shared, other.type):
            links[pair] = link
            doubts.pop(pair, None)
        elif can_be_one(entity.name, entity.type, other.name, other.type):
            doubts[pair] = (
                Link(name=entity.name, other_id=other.id, reason="model"),
                _doubt(entity, other, said),
            )

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
            others = await self._store.known_vectors(self._namespace, self._embedder.name, type_)
            if not others:
                continue
            of_type = [entity for entity in entities if entity.type == type_]
            for entity, other_id, likeness in _nearest(
                of_type, [vectors[self._id(entity.name)] for entity in of_type], others
            ):
                if other_id == self._id(entity.name):
                    continue
                found.extend(
                    (entity, other, likeness)
                    for other in await self._store.known([other_id])
                    if can_be_one(entity.name, entity.type, other.name, other.type)
                )
        return found

    def _id(self, name: str) -> UUID:
        return ids.entity_id(self._namespace, name)


def _nearest(
    entities: Sequence[ExtractedEntity], vectors: Sequence[bytes], others: Sequence[tuple[UUID, bytes]]
) -> list[tuple[ExtractedEntity, UUID, float]]:
    import numpy as np

    known = _matrix([vector for _, vector in others])
    found: list[tuple[ExtractedEntity, UUID, float]] = []
    for entity, row in zip(entities, _matrix(vectors), strict=True):
        cosines = known @ row
        # One more than wanted: the entity itself may be among them.
        nearest: list[int] = np.argsort(-cosines)[: _CANDIDATES + 1].tolist()
        found.extend(
            (entity, others[position][0], float(cosines[position]))
            for position in nearest
            if cosines[position] >= DOUBTFUL
        )
    return found


def _matrix(vectors: Sequence[bytes]) -> "np.ndarray":
    import numpy as np

    rows = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1, lengths)


def _pair(link: Link, namespace: str) -> frozenset[UUID]:
    return frozenset((ids.entity_id(namespace, link.name), link.other_id))


def _same_core(name: str, other: str) -> bool:
    return ids.core_name(name) == ids.core_name(other) != ""


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
