"""Entities as they are shown: linked ones as one, under the id of the one that came first."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.stores.record.components import Component, connected, counting
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.visibility import LINK, NAMED, SOURCE, SPLIT, VISIBLE_SOURCE

UNTYPED = "Thing"

# Linked ones among what is found leave room for others.
_SPARE = 4
# So many begin with a word, or hold it, at most; of more, the most mentioned may be missed.
_MOST_HITS = 400
_MOST_SOURCES = 100
_NO_PUNCTUATION = str.maketrans(",.;()/-", "       ")  # as in the indexes

_KNOWN: LiteralString = f"""
SELECT e.id FROM entities e WHERE e.namespace = %(namespace)s AND e.id = ANY(%(ids)s) AND {NAMED}
"""

# How well those match that are found, and how often they are named; an alias counts where a visible version gives it.
_RANKED: LiteralString = f"""
SELECT h.id, max(h.match) AS match, max(m.mentions) AS mentions FROM hits h
CROSS JOIN LATERAL (
    SELECT sum(cardinality(s.chunk_ids)) AS mentions FROM entity_sources s JOIN versions v ON v.id = s.version_id
    WHERE s.entity_id = h.id AND (%(type)s::text IS NULL OR lower(s.type) = lower(%(type)s)) AND {VISIBLE_SOURCE}
    HAVING count(*) > 0 AND (h.alias IS NULL OR bool_or(h.alias = ANY(s.alias_keys)))
) AS m
GROUP BY h.id ORDER BY match DESC, mentions DESC, h.id LIMIT %(limit)s
"""

# By the whole name or alias, by its beginning, by its words; the best match counts.
_BY_NAME: LiteralString = f"""
WITH hits AS (
    SELECT id, NULL AS alias, 3 AS match FROM entities WHERE namespace = %(namespace)s AND normalised = %(exact)s
  UNION ALL
    SELECT entity_id, key, 2 FROM entity_aliases WHERE namespace = %(namespace)s AND key = %(exact)s
  UNION ALL
    (SELECT id, NULL, 1 FROM entities WHERE namespace = %(namespace)s AND normalised LIKE %(prefix)s LIMIT %(most)s)
  UNION ALL
    (SELECT id, NULL, 0 FROM entities WHERE namespace = %(namespace)s
        AND string_to_array(translate(normalised, ',.;()/-', '       '), ' ') @> %(words)s LIMIT %(most)s)
  UNION ALL
    (SELECT entity_id, key, 0 FROM entity_aliases WHERE namespace = %(namespace)s
        AND string_to_array(translate(key, ',.;()/-', '       '), ' ') @> %(words)s LIMIT %(most)s)
)
{_RANKED}
"""

# By a part of a word; reads every name.
_BY_PART: LiteralString = f"""
WITH hits AS (
    (SELECT id, NULL AS alias, 0 AS match FROM entities
        WHERE namespace = %(namespace)s AND normalised LIKE %(part)s LIMIT %(most)s)
  UNION ALL
    (SELECT entity_id, key, 0 FROM entity_aliases WHERE namespace = %(namespace)s AND key LIKE %(part)s LIMIT %(most)s)
)
{_RANKED}
"""

_MOST_MENTIONED: LiteralString = f"""
SELECT s.entity_id AS id, 0 AS match, sum(cardinality(s.chunk_ids)) AS mentions
FROM entity_sources s JOIN versions v ON v.id = s.version_id
WHERE {VISIBLE_SOURCE} AND (%(type)s::text IS NULL OR lower(s.type) = lower(%(type)s))
GROUP BY s.entity_id ORDER BY mentions DESC, s.entity_id LIMIT %(limit)s
"""

_DESCRIBED: LiteralString = f"""
SELECT s.entity_id, s.name, s.type, s.aliases, sum(cardinality(s.chunk_ids)) AS mentions, count(*) AS said
FROM entity_sources s JOIN versions v ON v.id = s.version_id
WHERE s.entity_id = ANY(%(members)s) AND {VISIBLE_SOURCE}
GROUP BY s.entity_id, s.name, s.type, s.aliases
"""

_SOURCES: LiteralString = f"""
SELECT n.root AS entity_id, {SOURCE} FROM (
    SELECT r.root, v.id, dense_rank() OVER (PARTITION BY r.root ORDER BY v.ingestion_seq DESC) AS place
    FROM unnest(%(members)s::uuid[], %(roots)s::uuid[]) AS r(member, root)
    JOIN entity_sources s ON s.entity_id = r.member JOIN versions v ON v.id = s.version_id
    WHERE {VISIBLE_SOURCE}
      AND (%(until)s::timestamptz IS NULL OR coalesce(v.document_time, v.committed_at) <= %(until)s)
    GROUP BY r.root, v.id
) AS n JOIN versions v ON v.id = n.id JOIN documents d ON d.id = v.document_id
WHERE n.place <= %(most)s ORDER BY n.root, n.place
"""

# Those of the newest documents first.
_CHUNKS: LiteralString = f"""
SELECT u.chunk_id, count(DISTINCT r.root) AS named FROM unnest(%(members)s::uuid[], %(roots)s::uuid[]) AS r(member, root)
JOIN entity_sources s ON s.entity_id = r.member JOIN versions v ON v.id = s.version_id
CROSS JOIN LATERAL unnest(s.chunk_ids) AS u(chunk_id)
WHERE {VISIBLE_SOURCE}
GROUP BY u.chunk_id, v.ingestion_seq ORDER BY named DESC, v.ingestion_seq DESC LIMIT %(limit)s
"""

_COUNTS: LiteralString = f"""
SELECT (SELECT count(DISTINCT s.entity_id) FROM entity_sources s JOIN versions v ON v.id = s.version_id
        WHERE {VISIBLE_SOURCE}) AS entities,
       (SELECT count(DISTINCT s.fact_id) FROM fact_sources s JOIN versions v ON v.id = s.version_id
        WHERE {VISIBLE_SOURCE}) AS facts
"""

_ALL_PAIRS: LiteralString = f"""
SELECT p.a_id, p.b_id, k.reason FROM entity_pairs p JOIN entities e ON e.id = p.a_id CROSS JOIN LATERAL ({LINK}) AS k
WHERE e.namespace = %(namespace)s AND NOT {SPLIT}
"""


async def known_ids(snapshot: Snapshot, names: Sequence[str]) -> list[UUID]:
    """Ids of visible entities that have one of these names."""
    wanted = [ids.entity_id(snapshot.namespace, name) for name in names]
    return [row["id"] for row in await snapshot.rows(_KNOWN, ids=wanted)]


async def find_entities(
    snapshot: Snapshot, *, query: str | None, entity_id: UUID | None, type_: str | None, limit: int
) -> list[dict[str, Any]]:
    """Entities by id, by name or alias (exact first), by type; the most mentioned first."""
    type_ = ids.normalise_type(type_) if type_ else None
    if entity_id is not None:
        component = (await snapshot.components([entity_id]))[entity_id]
        return await described(snapshot, {component.id: component})
    hits = await _hits(snapshot, query, type_, _SPARE * limit)
    shown = await snapshot.components(row["id"] for row in hits)
    match: dict[UUID, int] = {}
    for row in hits:
        id_ = shown[row["id"]].id
        match[id_] = max(row["match"], match.get(id_, 0))
    rows = await described(snapshot, {one.id: one for one in shown.values()})
    rows.sort(key=lambda row: (-match[row["id"]], -row["mentions"], row["id"]))
    return rows[:limit]


async def _hits(snapshot: Snapshot, query: str | None, type_: str | None, limit: int) -> list[dict[str, Any]]:
    name = ids.normalise_name(query) if query else None
    if name is None:
        return await snapshot.rows(_MOST_MENTIONED, type=type_, limit=limit)
    words = name.translate(_NO_PUNCTUATION).split()
    if not words:
        return []  # nothing but punctuation
    escaped = _escape_like(name)
    bound = {"type": type_, "limit": limit, "most": _MOST_HITS}
    hits = await snapshot.rows(_BY_NAME, exact=name, prefix=f"{escaped}%", words=words, **bound)
    return hits or await snapshot.rows(_BY_PART, part=f"%{escaped}%", **bound)


async def described(snapshot: Snapshot, groups: Mapping[UUID, Component]) -> list[dict[str, Any]]:
    """What visible versions say of entities as they are shown; those of which none says anything are left out.

    Each row has `id`, `name`, `type`, `aliases`, `mentions`, and `merged`: id, name and reason of each other visible member.
    """
    members = [one for group in groups.values() for one in group.members]
    said: dict[UUID, list[dict[str, Any]]] = {}
    for row in await snapshot.rows(_DESCRIBED, members=members) if members else ():
        said.setdefault(row["entity_id"], []).append(row)
    return [
        _described(group, {one: said[one] for one in group.members if one in said})
        for group in groups.values()
        if any(one in said for one in group.members)
    ]


def _described(group: Component, said: Mapping[UUID, Sequence[dict[str, Any]]]) -> dict[str, Any]:
    names = {one: _most(rows, "name") for one, rows in said.items()}
    everything = [row for rows in said.values() for row in rows]
    typed = [row for row in everything if row["type"] != UNTYPED]
    name = names[group.id]
    spellings = {row["name"] for row in everything} | {
        alias for row in everything for alias in row["aliases"]
    }
    own = ids.normalise_name(name)
    return {
        "id": group.id,
        "name": name,
        "type": _most(typed, "type") if typed else UNTYPED,
        "aliases": sorted(one for one in spellings if ids.normalise_name(one) != own),
        "mentions": sum(int(row["mentions"]) for row in everything),
        "merged": [(one, names[one], group.reasons[one]) for one in names if one != group.id],
    }


def _most(rows: Sequence[dict[str, Any]], what: str) -> str:
    """What is said most often; of equals the first in the alphabet."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row[what]] += row["said"]
    return min(counts, key=lambda value: (-counts[value], value))


async def sources_of(
    snapshot: Snapshot, entities: Collection[UUID], *, until: datetime | None
) -> list[dict[str, Any]]:
    """The newest documents that name these entities or those linked with them, under the shown ids; 100 of each at most.

    With `until` only those dated no later; an undated one counts as of the time when it was stored.
    """
    members, roots = await _members(snapshot, entities)
    return await snapshot.rows(_SOURCES, members=members, roots=roots, most=_MOST_SOURCES, until=until)


async def chunks_naming(
    snapshot: Snapshot, entities: Collection[UUID], *, limit: int
) -> list[tuple[UUID, int]]:
    """(passage, number of these entities it names), the most first; linked ones count as one."""
    members, roots = await _members(snapshot, entities)
    rows = await snapshot.rows(_CHUNKS, members=members, roots=roots, limit=limit)
    return [(row["chunk_id"], row["named"]) for row in rows]


async def graph_counts(snapshot: Snapshot) -> dict[str, int]:
    """Numbers of entities and facts; reads every mention, so for those who ask for it only."""
    (row,) = await snapshot.rows(_COUNTS)
    pairs = await snapshot.rows(_ALL_PAIRS)
    links = {(pair["a_id"], pair["b_id"]): pair["reason"] for pair in pairs}
    links, named = await counting(snapshot.connection, snapshot.namespace, snapshot.revision, links)
    visible = {id_ for id_, row in named.items() if row["visible"]}
    merged = sum(max(0, len(group & visible) - 1) for group in connected(links))
    return {"entities": int(row["entities"]) - merged, "facts": int(row["facts"])}


async def _members(snapshot: Snapshot, entities: Collection[UUID]) -> tuple[list[UUID], list[UUID]]:
    groups = {one.id: one for one in (await snapshot.components(entities)).values()}
    pairs = [(member, root) for root, group in groups.items() for member in group.members]
    return [member for member, _ in pairs], [root for _, root in pairs]


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
