"""The graph in PostgreSQL: the record's own entities and facts."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.stores.graph.protocol import Neighbour
from apex_mcp.stores.record.components import Component
from apex_mcp.stores.record.facts import facts_of
from apex_mcp.stores.record.reading import Reader
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.visibility import VISIBLE_SOURCE

_MAX_HOPS = 3
_MOST_NAMES = 2000
# Sources of facts that are weighed where their times matter.
_MOST_SOURCES = 50_000

_NAMES: LiteralString = f"""
WITH named AS (
    SELECT id FROM entities WHERE namespace = %(namespace)s AND string_to_array(normalised, ' ') @> %(words)s
    UNION
    SELECT entity_id FROM entity_aliases WHERE namespace = %(namespace)s AND string_to_array(key, ' ') @> %(words)s)
SELECT e.id, max(CASE WHEN e.normalised = %(name)s THEN 3 WHEN %(name)s = ANY(s.alias_keys) THEN 2
                      WHEN starts_with(e.normalised, %(name)s) THEN 1 ELSE 0 END) AS match
FROM named JOIN entities e ON e.id = named.id JOIN entity_sources s ON s.entity_id = e.id
JOIN versions v ON v.id = s.version_id
WHERE {VISIBLE_SOURCE} AND (string_to_array(e.normalised, ' ') @> %(words)s OR EXISTS (
    SELECT 1 FROM unnest(s.alias_keys) AS a(key) WHERE string_to_array(a.key, ' ') @> %(words)s))
GROUP BY e.id ORDER BY match DESC, e.id LIMIT %(most)s
"""

_MENTIONS: LiteralString = f"""
SELECT s.entity_id, sum(cardinality(s.chunk_ids)) AS mentions FROM entity_sources s JOIN versions v ON v.id = s.version_id
WHERE s.entity_id = ANY(%(entities)s) AND {VISIBLE_SOURCE} GROUP BY s.entity_id
"""

# The two ends of a fact are two queries, because each has an index of its own.
_ADJACENT: LiteralString = f"""
SELECT n.other, array_agg(n.id) AS facts FROM (
    SELECT f.id, f.object_id AS other FROM facts f WHERE f.subject_id = ANY(%(entities)s)
    UNION
    SELECT f.id, f.subject_id FROM facts f WHERE f.object_id = ANY(%(entities)s)) AS n
WHERE EXISTS (SELECT 1 FROM fact_sources s JOIN versions v ON v.id = s.version_id
              WHERE s.fact_id = n.id AND {VISIBLE_SOURCE})
GROUP BY n.other
"""

_VISIBLE_ENTITIES: LiteralString = f"""
SELECT u.id FROM unnest(%(entities)s::uuid[]) AS u(id) WHERE EXISTS (
    SELECT 1 FROM entity_sources s JOIN versions v ON v.id = s.version_id WHERE s.entity_id = u.id AND {VISIBLE_SOURCE})
"""


class RecordGraph:
    """The record as a graph: always there, always complete.

    Args:
        reader: opens snapshots.
        exclusive: predicates with one object at a time.
    """

    def __init__(self, reader: Reader, exclusive: frozenset[str]) -> None:
        self._reader = reader
        self._exclusive = exclusive

    async def find_names(self, namespace: str, query: str, *, limit: int) -> list[UUID]:
        """Entities whose name or alias holds the words of `query`; exact ones first."""
        name = ids.normalise_name(query)
        if not name or limit <= 0:
            return []
        async with self._reader.view(namespace) as view:
            snapshot = Snapshot(connection=view.connection, namespace=view.namespace, revision=view.revision)
            found = await snapshot.rows(_NAMES, name=name, words=name.split(), most=_MOST_NAMES)
            shown = await snapshot.components(row["id"] for row in found)
            members = list({one for group in shown.values() for one in group.members})
            mentions = {
                row["entity_id"]: int(row["mentions"])
                for row in await snapshot.rows(_MENTIONS, entities=members)
            }
        best: dict[UUID, tuple[int, int, UUID]] = {}
        for row in found:
            group = shown[row["id"]]
            rank = (-row["match"], -sum(mentions.get(one, 0) for one in group.members), group.id)
            best[group.id] = min(rank, best.get(group.id, rank))
        return sorted(best, key=best.__getitem__)[:limit]

    async def neighbours(
        self,
        namespace: str,
        entity_ids: Sequence[UUID],
        *,
        hops: int = 1,
        limit: int = 50,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
    ) -> list[Neighbour]:
        """Entities within 1 to 3 hops, themselves not among them; `as_of` passes facts only that were true then.

        With `known_at` as the record was known then.
        """
        async with self._reader.view(namespace, known_at=known_at) as view:
            snapshot = Snapshot(connection=view.connection, namespace=view.namespace, revision=view.revision)
            groups = await snapshot.components(entity_ids)
            frontier = {group.id: group for group in groups.values()}
            seen, found = set(frontier), list[Neighbour]()
            for hop in range(1, min(hops, _MAX_HOPS) + 1):
                near = await self._near(snapshot, frontier.values(), seen, as_of)
                nearest = sorted(near)[: max(0, limit - len(found))]
                found += [
                    Neighbour(entity_id=id_, hops=hop, fact_ids=tuple(sorted(near[id_][1])))
                    for id_ in nearest
                ]
                frontier = {id_: near[id_][0] for id_ in nearest}
                if not frontier or len(found) >= limit:
                    break
                seen.update(frontier)
        return found

    async def _near(
        self, snapshot: Snapshot, groups: Collection[Component], seen: set[UUID], as_of: datetime | None
    ) -> dict[UUID, tuple[Component, set[UUID]]]:
        """Visible entities one fact away, with the facts."""
        members = [one for group in groups for one in group.members]
        edges: list[tuple[UUID, set[UUID]]]
        if as_of is None:
            edges = [
                (row["other"], set(row["facts"])) for row in await snapshot.rows(_ADJACENT, entities=members)
            ]
        else:
            facts = await facts_of(snapshot, members, exclusive=self._exclusive, limit=_MOST_SOURCES)
            ours = {group.id for group in groups}
            edges = [
                (other, {row["id"] for row in fact.sources})
                for fact in facts
                if fact.holds(as_of)
                for one, other in ((fact.subject_id, fact.object_id), (fact.object_id, fact.subject_id))
                if one in ours
            ]
        shown = await snapshot.components(other for other, _ in edges)
        wanted = {group.id for group in shown.values()} - seen
        visible = {row["id"] for row in await snapshot.rows(_VISIBLE_ENTITIES, entities=list(wanted))}
        near: dict[UUID, tuple[Component, set[UUID]]] = {}
        for other, fact_ids in edges:
            group = shown[other]
            if group.id in visible:
                near.setdefault(group.id, (group, set()))[1].update(fact_ids)
        return near

    async def count(self, namespace: str) -> tuple[int, int]:
        """Number of entities and of facts."""
        async with self._reader.view(namespace) as view:
            counts = await view.graph_counts()
        return counts["entities"], counts["facts"]

    async def close(self) -> None:
        """Nothing is held."""
