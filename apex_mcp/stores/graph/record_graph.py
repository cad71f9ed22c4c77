"""The graph in PostgreSQL: the record's own entities and facts."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.stores.graph.protocol import Neighbour
from apex_mcp.stores.record.components import Component
from apex_mcp.stores.record.reading import Reader, View
from apex_mcp.stores.record.visibility import VISIBLE_SOURCE

_MAX_HOPS = 3
# Sources of facts that are weighed where their times matter.
_MOST_SOURCES = 50_000

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
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def find_names(self, namespace: str, query: str, *, limit: int) -> list[UUID]:
        """Entities whose name or alias is `query`, begins with it or holds its words, in this order; else parts of words."""
        if limit <= 0 or not ids.normalise_name(query):
            return []
        async with self._reader.view(namespace) as view:
            found = await view.find_entities(query=query, entity_id=None, type_=None, limit=limit)
        return [row["id"] for row in found]

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
            groups = await view.components(entity_ids)
            frontier = {group.id: group for group in groups.values()}
            seen, found = set(frontier), list[Neighbour]()
            for hop in range(1, min(hops, _MAX_HOPS) + 1):
                near = await self._near(view, frontier.values(), seen, as_of)
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
        self, view: View, groups: Collection[Component], seen: set[UUID], as_of: datetime | None
    ) -> dict[UUID, tuple[Component, set[UUID]]]:
        """Visible entities one fact away, with the facts."""
        members = [one for group in groups for one in group.members]
        edges: list[tuple[UUID, set[UUID]]]
        if as_of is None:
            edges = [
                (row["other"], set(row["facts"])) for row in await view.rows(_ADJACENT, entities=members)
            ]
        else:
            facts = await view.facts_of(members, limit=_MOST_SOURCES)
            ours = {group.id for group in groups}
            edges = [
                (other, {row["id"] for row in fact.sources})
                for fact in facts
                if fact.holds(as_of)
                for one, other in ((fact.subject_id, fact.object_id), (fact.object_id, fact.subject_id))
                if one in ours
            ]
        shown = await view.components(other for other, _ in edges)
        wanted = {group.id for group in shown.values()} - seen
        visible = {row["id"] for row in await view.rows(_VISIBLE_ENTITIES, entities=list(wanted))}
        near: dict[UUID, tuple[Component, set[UUID]]] = {}
        for other, fact_ids in edges:
            group = shown[other]
            if group.id in visible:
                near.setdefault(group.id, (group, set()))[1].update(fact_ids)
        return near
