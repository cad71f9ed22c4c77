"""Entities and passages as they are shown now, for a graph index that keeps them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.stores.record.components import Component
from apex_mcp.stores.record.entities import described
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.visibility import PUBLISHED_SOURCE, VISIBLE, VISIBLE_SOURCE

_LOOKED_UP_BY: LiteralString = f"""
SELECT e.id, e.normalised, min(v.committed_at) AS created_at, array_agg(DISTINCT a.key) FILTER (WHERE a.key IS NOT NULL) AS keys
FROM entities e JOIN entity_sources s ON s.entity_id = e.id JOIN versions v ON v.id = s.version_id
LEFT JOIN LATERAL unnest(s.alias_keys) AS a(key) ON true
WHERE e.id = ANY(%(entities)s) AND {VISIBLE_SOURCE} GROUP BY e.id
"""

_VECTORS: LiteralString = """
SELECT entity_id, vector FROM entity_vectors WHERE entity_id = ANY(%(entities)s) AND embedder = %(embedder)s
"""

# What facts name that no visible version names as an entity: plain values, as a rule.
_NAMED_BY_FACTS: LiteralString = f"""
SELECT DISTINCT ON (u.id) u.id, coalesce(o.object_text, e.normalised) AS name, v.committed_at AS created_at
FROM unnest(%(entities)s::uuid[]) AS u(id)
JOIN LATERAL (SELECT id, object_text FROM facts WHERE object_id = u.id
              UNION ALL SELECT id, NULL FROM facts WHERE subject_id = u.id) AS o ON true
JOIN fact_sources s ON s.fact_id = o.id JOIN versions v ON v.id = s.version_id
LEFT JOIN entities e ON e.id = u.id
WHERE {VISIBLE_SOURCE} ORDER BY u.id, o.object_text NULLS LAST, v.committed_at
"""

_PASSAGES: LiteralString = f"""
SELECT c.id, c.ordinal, c.text, v.title, v.uri, v.committed_at, coalesce(v.document_time, i.accepted_at) AS said_at,
       ARRAY(SELECT s.entity_id FROM entity_sources s WHERE s.version_id = v.id AND c.id = ANY(s.chunk_ids)
             AND {PUBLISHED_SOURCE}) AS entities,
       ARRAY(SELECT s.fact_id FROM fact_sources s WHERE s.version_id = v.id AND s.chunk_id = c.id
             AND {PUBLISHED_SOURCE}) AS facts
FROM chunks c JOIN versions v ON v.id = c.version_id JOIN ingestions i ON i.id = v.ingestion_id
WHERE c.id = ANY(%(chunks)s) AND {VISIBLE}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEntity:
    """An entity with all that is shown under it.

    Attributes:
        id: under which it and those linked with it are shown.
        members: ids that mean it, its own among them.
        names, alias_keys: normalised, as they are looked up.
        value: nothing but what a fact says of something else ("4.2 million dollars").
        vector: of its name, packed.
    """

    id: UUID
    name: str
    type: str
    aliases: tuple[str, ...]
    members: tuple[UUID, ...]
    names: tuple[str, ...]
    alias_keys: tuple[str, ...]
    mentions: int
    created_at: datetime
    value: bool = False
    vector: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPassage:
    """A passage, with the entities that it names and the facts that it states."""

    id: UUID
    title: str
    ordinal: int
    uri: str
    text: str
    said_at: datetime
    created_at: datetime
    entities: tuple[UUID, ...]
    facts: tuple[UUID, ...]


async def shown_entities(
    snapshot: Snapshot, groups: Iterable[Component], *, embedder: str | None
) -> dict[UUID, ShownEntity]:
    """What is visible of these, by the id under which it is shown; plain values too, while a fact names them."""
    wanted = {group.id: group for group in groups}
    members = [one for group in wanted.values() for one in group.members]
    if not members:
        return {}
    looked_up = {row["id"]: row for row in await snapshot.rows(_LOOKED_UP_BY, entities=members)}
    vectors = {
        row["entity_id"]: row["vector"]
        for row in (
            await snapshot.rows(_VECTORS, entities=list(wanted), embedder=embedder) if embedder else ()
        )
    }
    found = {
        row["id"]: _entity(row, wanted[row["id"]], looked_up, vectors.get(row["id"]))
        for row in await described(snapshot, wanted)
    }
    return found | await _values(snapshot, wanted.keys() - found.keys())


def _entity(
    row: dict[str, Any], group: Component, looked_up: dict[UUID, dict[str, Any]], vector: bytes | None
) -> ShownEntity:
    visible = [looked_up[one] for one in group.members if one in looked_up]
    return ShownEntity(
        id=group.id,
        name=row["name"],
        type=row["type"],
        aliases=tuple(row["aliases"]),
        members=group.members,
        names=tuple(one["normalised"] for one in visible),
        alias_keys=tuple(sorted({key for one in visible for key in one["keys"] or ()})),
        mentions=row["mentions"],
        created_at=min(one["created_at"] for one in visible),
        vector=vector,
    )


async def _values(snapshot: Snapshot, entities: Collection[UUID]) -> dict[UUID, ShownEntity]:
    if not entities:
        return {}
    return {
        row["id"]: ShownEntity(
            id=row["id"],
            name=row["name"],
            type="Value",
            aliases=(),
            members=(row["id"],),
            names=(),
            alias_keys=(),
            mentions=0,
            created_at=row["created_at"],
            value=True,
        )
        for row in await snapshot.rows(_NAMED_BY_FACTS, entities=list(entities))
    }


async def shown_passages(snapshot: Snapshot, chunk_ids: Collection[UUID]) -> list[ShownPassage]:
    """The visible ones of these passages; entities by the ids that their versions gave them."""
    if not chunk_ids:
        return []
    return [
        ShownPassage(
            id=row["id"],
            title=row["title"],
            ordinal=row["ordinal"],
            uri=row["uri"],
            text=row["text"],
            said_at=row["said_at"],
            created_at=row["committed_at"],
            entities=tuple(row["entities"]),
            facts=tuple(row["facts"]),
        )
        for row in await snapshot.rows(_PASSAGES, chunks=list(chunk_ids))
    ]
