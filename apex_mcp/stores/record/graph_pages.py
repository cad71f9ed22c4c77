"""What a graph on a server should hold, by ranges of ids: to compare it with what it does hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import LONG_SECONDS, Database
from apex_mcp.stores.record.graph_changes import Stated
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.visibility import CURRENT

_ENTITIES: LiteralString = """
SELECT id FROM (SELECT id FROM entities WHERE namespace = %(namespace)s
                UNION SELECT object_id FROM facts WHERE namespace = %(namespace)s) AS every
WHERE id > %(after)s ORDER BY id LIMIT %(limit)s
"""

_PASSAGES: LiteralString = f"""
SELECT c.id FROM chunks c JOIN versions v ON v.id = c.version_id
WHERE v.namespace = %(namespace)s AND {CURRENT} AND c.id > %(after)s ORDER BY c.id LIMIT %(limit)s
"""

_STATED: LiteralString = """
SELECT DISTINCT subject_id, predicate, object_id FROM facts WHERE subject_id = ANY(%(entities)s)
"""

_UNKNOWN_ENTITIES: LiteralString = """
SELECT u.id FROM unnest(%(ids)s::uuid[]) AS u(id)
WHERE NOT EXISTS (SELECT 1 FROM entities e WHERE e.id = u.id AND e.namespace = %(namespace)s)
  AND NOT EXISTS (SELECT 1 FROM facts f WHERE f.object_id = u.id AND f.namespace = %(namespace)s)
"""
_UNKNOWN_PASSAGES: LiteralString = """
SELECT u.id FROM unnest(%(ids)s::uuid[]) AS u(id) WHERE NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = u.id)
"""

# Whatever is wrong with these, the next run of the projector writes them as they are now.
_PUT_ENTITIES: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id) SELECT %(namespace)s, 'entity', u.id FROM unnest(%(ids)s::uuid[]) AS u(id)
"""
_PUT_PASSAGES: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id) SELECT %(namespace)s, 'chunk', u.id FROM unnest(%(ids)s::uuid[]) AS u(id)
"""
_PUT_FACTS: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id, predicate, object_id) SELECT %(namespace)s, 'fact', u.s, u.p, u.o
FROM unnest(%(subjects)s::uuid[], %(predicates)s::text[], %(objects)s::uuid[]) AS u(s, p, o)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """Ids after one and up to another, to the end where that is None; and those of the record in between."""

    after: UUID
    upto: UUID | None
    ids: tuple[UUID, ...]


class GraphPages:
    """The record's side of comparing a graph."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entities_after(self, namespace: str, after: UUID, *, limit: int) -> IdRange:
        """The next ids of entities, and of values that facts name."""
        return await self._after(_ENTITIES, namespace, after, limit)

    async def passages_after(self, namespace: str, after: UUID, *, limit: int) -> IdRange:
        """The next ids of current passages."""
        return await self._after(_PASSAGES, namespace, after, limit)

    async def _after(self, query: LiteralString, namespace: str, after: UUID, limit: int) -> IdRange:
        rows = await self._database.fetch_all(
            query, {"namespace": namespace, "after": after, "limit": limit}, answer_seconds=LONG_SECONDS
        )
        ids = tuple(row["id"] for row in rows)
        return IdRange(after=after, upto=ids[-1] if len(ids) == limit else None, ids=ids)

    async def unknown_entities(self, namespace: str, ids: Sequence[UUID]) -> list[UUID]:
        """Of these ids those that no entity of the namespace has, and no fact names. Raises Unavailable."""
        rows = await self._database.fetch_all(
            _UNKNOWN_ENTITIES, {"namespace": namespace, "ids": list(ids)}, answer_seconds=LONG_SECONDS
        )
        return [row["id"] for row in rows]

    async def unknown_passages(self, ids: Sequence[UUID]) -> list[UUID]:
        """Of these ids those that no passage of any version has. Raises Unavailable."""
        return [
            row["id"]
            for row in await self._database.fetch_all(
                _UNKNOWN_PASSAGES, {"ids": list(ids)}, answer_seconds=LONG_SECONDS
            )
        ]

    async def put(
        self,
        namespace: str,
        *,
        entities: Sequence[UUID] = (),
        passages: Sequence[UUID] = (),
        facts: Sequence[Stated] = (),
    ) -> None:
        """Have these written anew, or removed where the record does not show them.

        Raises:
            Unavailable: the database does not answer; nothing was changed.
        """
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            bound = {"namespace": namespace}
            await connection.execute(_PUT_ENTITIES, {**bound, "ids": list(entities)})
            await connection.execute(_PUT_PASSAGES, {**bound, "ids": list(passages)})
            await connection.execute(
                _PUT_FACTS,
                {
                    **bound,
                    "subjects": [one for one, _, _ in facts],
                    "predicates": [one for _, one, _ in facts],
                    "objects": [one for _, _, one in facts],
                },
            )


async def stated_by(snapshot: Snapshot, entity_ids: Sequence[UUID]) -> list[Stated]:
    """What any version, visible or not, states of these."""
    rows = await snapshot.rows(_STATED, entities=list(entity_ids))
    return [(row["subject_id"], row["predicate"], row["object_id"]) for row in rows]
