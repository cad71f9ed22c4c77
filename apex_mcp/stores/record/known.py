"""What is known already when a model's findings arrive: entities that may be the same, facts that may have ended."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.models import Exclusive
from apex_mcp.stores.record.components import LIKENESS
from apex_mcp.stores.record.entities import described
from apex_mcp.stores.record.facts import Fact, facts_of
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.visibility import VISIBLE_SOURCE

_MOST_SENTENCES = 5
_MOST_FACTS = 500
# What is made of so many entities' facts at once holds the event loop.
_ENTITIES_AT_ONCE = 100

# By the name itself, by an alias of either side's, and by what spellings of an organisation share.
_BY_NAME: LiteralString = f"""
SELECT DISTINCT q.name, e.id FROM unnest(%(names)s::text[], %(keys)s::text[], %(cores)s::text[]) AS q(name, key, core)
CROSS JOIN LATERAL (
    SELECT n.id, false AS by_alias, false AS by_core FROM entities n
    WHERE n.namespace = %(namespace)s AND n.normalised = q.key
    UNION ALL
    SELECT a.entity_id, true, false FROM entity_aliases a WHERE a.namespace = %(namespace)s AND a.key = q.key
    UNION ALL
    SELECT n.id, false, true FROM entities n WHERE n.namespace = %(namespace)s AND n.core = q.core AND q.core <> ''
) AS e
WHERE EXISTS (SELECT 1 FROM entity_sources s JOIN versions v ON v.id = s.version_id
              WHERE s.entity_id = e.id AND (NOT e.by_alias OR q.key = ANY(s.alias_keys))
                AND (NOT e.by_core OR s.type IN ('Organization', 'Thing')) AND {VISIBLE_SOURCE})
"""

# In pages: a namespace's vectors together may be more than a process should hold. Not by EXISTS: see `visibility.NAMED`.
_VECTORS: LiteralString = f"""
SELECT x.entity_id, x.vector FROM entity_vectors x JOIN entities e ON e.id = x.entity_id
WHERE e.namespace = %(namespace)s AND x.embedder = %(embedder)s AND x.entity_id > %(after)s
  AND (SELECT true FROM entity_sources s JOIN versions v ON v.id = s.version_id
       WHERE s.entity_id = e.id AND s.type = %(type)s AND {VISIBLE_SOURCE} LIMIT 1)
ORDER BY x.entity_id LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEntity:
    """A visible entity as it is shown, with up to five sentences of its facts.

    `likened` are ids and names of what a likeness alone made one with it.
    """

    id: UUID
    name: str
    type: str
    aliases: tuple[str, ...]
    said: tuple[str, ...]
    likened: tuple[tuple[UUID, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFact:
    """A visible fact; it is `known_since` a time that a source says, not when one was accepted.

    Attributes:
        ids: all that its statements have; `id` is one of them.
        invalid_at: when it ended, as far as is known.
        told_by: facts that ended it as a model told.
    """

    id: UUID
    subject: str
    predicate: str
    object: str
    sentence: str
    begins: datetime | None
    known_since: datetime | None
    ids: frozenset[UUID]
    invalid_at: datetime | None = None
    told_by: frozenset[UUID] = frozenset()


async def known_by_name(
    snapshot: Snapshot, names: Sequence[str], exclusive: Exclusive
) -> dict[str, list[KnownEntity]]:
    """For each name the visible entities, as they are shown, that share it, an alias or its core."""
    found = await ids_by_name(snapshot, names)
    known = await _known(snapshot, {one for some in found.values() for one in some}, exclusive)
    return {name: [known[one] for one in sorted(some) if one in known] for name, some in found.items()}


async def ids_by_name(snapshot: Snapshot, names: Sequence[str]) -> dict[str, set[UUID]]:
    """For each name the ids, as they are shown, of visible entities that share it, an alias or its core."""
    rows = await snapshot.rows(
        _BY_NAME,
        names=list(names),
        keys=[ids.normalise_name(name) for name in names],
        cores=[ids.core_name(name) for name in names],
    )
    shown = await snapshot.components(row["id"] for row in rows)
    found: dict[str, set[UUID]] = {name: set() for name in names}
    for row in rows:
        found[row["name"]].add(shown[row["id"]].id)
    return found


async def known(snapshot: Snapshot, entity_ids: Collection[UUID], exclusive: Exclusive) -> list[KnownEntity]:
    """The visible ones of these entities as they are shown, each once."""
    shown = await snapshot.components(entity_ids)
    return list((await _known(snapshot, {one.id for one in shown.values()}, exclusive)).values())


async def _known(
    snapshot: Snapshot, shown: Collection[UUID], exclusive: Exclusive
) -> dict[UUID, KnownEntity]:
    found: dict[UUID, KnownEntity] = {}
    for some in batches(sorted(shown), _ENTITIES_AT_ONCE):
        groups = {one.id: one for one in (await snapshot.components(some)).values()}
        said = _sentences(await facts_of(snapshot, list(groups), exclusive=exclusive, limit=20 * len(groups)))
        found |= {
            row["id"]: KnownEntity(
                id=row["id"],
                name=row["name"],
                type=row["type"],
                aliases=tuple(row["aliases"]),
                said=tuple(said.get(row["id"], ())),
                likened=tuple((one, name) for one, name, reason in row["merged"] if reason in LIKENESS),
            )
            for row in await described(snapshot, groups)
        }
    return found


def _sentences(facts: Iterable[Fact]) -> dict[UUID, list[str]]:
    """The first few sentences about each entity."""
    said: dict[UUID, list[str]] = {}
    for fact in facts:
        for id_ in {fact.subject_id, fact.object_id}:
            about = said.setdefault(id_, [])
            if len(about) < _MOST_SENTENCES:
                about.append(fact.sentence)
    return said


async def known_vectors(
    snapshot: Snapshot, embedder: str, type_: str, *, after: UUID | None, limit: int
) -> list[tuple[UUID, bytes]]:
    """Vectors of the names of visible entities of a type: up to `limit` in the order of their ids, behind `after`."""
    rows = await snapshot.rows(
        _VECTORS, embedder=embedder, type=type_, after=after or UUID(int=0), limit=limit
    )
    return [(row["entity_id"], row["vector"]) for row in rows]


async def facts_of_subject(snapshot: Snapshot, subject: str, exclusive: Exclusive) -> list[KnownFact]:
    """Facts of the entity that this name is shown as: those that have not ended, then those that have."""
    id_ = ids.entity_id(snapshot.namespace, subject)
    shown = (await snapshot.components([id_]))[id_].id
    facts = [
        KnownFact(
            id=fact.id,
            subject=fact.subject,
            predicate=fact.predicate,
            object=fact.object,
            sentence=fact.sentence,
            begins=fact.begins,
            known_since=fact.known_since,
            ids=frozenset(row["id"] for row in fact.sources),
            invalid_at=fact.invalid_at,
            told_by=fact.told_by,
        )
        for fact in await facts_of(snapshot, [id_], exclusive=exclusive, limit=_MOST_FACTS)
        if fact.subject_id == shown
    ]
    return sorted(facts, key=lambda fact: fact.invalid_at is not None)
