"""The user's word on links: two entities are not one after all, or are one again."""

from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

from apex_mcp.errors import Code, Conflict
from apex_mcp.stores.record.components import components
from apex_mcp.stores.record.database import Connection, Database
from apex_mcp.stores.record.graph_changes import note_entities

_LOCK: LiteralString = "SELECT revision FROM namespaces WHERE name = %s FOR NO KEY UPDATE"

_RAISE: LiteralString = """
WITH raised AS (UPDATE namespaces SET revision = revision + 1 WHERE name = %s RETURNING name, revision)
INSERT INTO revisions (namespace, revision) SELECT name, revision FROM raised RETURNING revision
"""

_SPLIT: LiteralString = """
INSERT INTO entity_splits (namespace, a_id, b_id, revision_from)
SELECT %(namespace)s, a.id, b.id, %(revision)s FROM entities a, entities b
WHERE %(one)s IN (a.id, b.id) AND a.id = ANY(%(members)s) AND b.id = ANY(%(members)s) AND a.seq < b.seq
  AND NOT EXISTS (SELECT 1 FROM entity_splits x WHERE x.a_id = a.id AND x.b_id = b.id AND x.revision_to IS NULL)
"""

_JOIN: LiteralString = """
UPDATE entity_splits SET revision_to = %(revision)s WHERE namespace = %(namespace)s AND revision_to IS NULL
  AND ((a_id = ANY(%(ours)s) AND b_id = ANY(%(theirs)s)) OR (a_id = ANY(%(theirs)s) AND b_id = ANY(%(ours)s)))
"""


class SplitStore:
    """Keeps entities apart, and puts them together again. Each change is a new revision of the namespace."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def split(self, namespace: str, entity_id: UUID, other_id: UUID) -> None:
        """From now on these two are not one: the later of them stands alone, without any that it was one with.

        Raises:
            Conflict: they are not one.
        """
        async with self._database.transaction() as connection:
            ours, theirs, _ = await _members(connection, namespace, entity_id, other_id)
            if entity_id == other_id or other_id not in ours:
                raise Conflict(
                    "these two entities are not one",
                    code=Code.NOT_MERGED,
                    next_step="get_entities shows under `merged_from` which ones were merged",
                )
            revision = await _raise(connection, namespace)
            one = max(entity_id, other_id, key=ours.index)
            await connection.execute(
                _SPLIT, {"namespace": namespace, "revision": revision, "one": one, "members": theirs}
            )
            await note_entities(connection, namespace, theirs)

    async def join(self, namespace: str, entity_id: UUID, other_id: UUID) -> None:
        """End a split: their links count again.

        Raises:
            Conflict: nobody split them.
        """
        async with self._database.transaction() as connection:
            ours, theirs, revision = await _members(connection, namespace, entity_id, other_id)
            bound = {"namespace": namespace, "revision": revision + 1, "ours": ours, "theirs": theirs}
            if not (await connection.execute(_JOIN, bound)).rowcount:
                raise Conflict(
                    "these two entities were not split",
                    code=Code.NOT_SPLIT,
                    next_step="only a split can be undone: names that are spelled alike are linked by themselves",
                )
            await _raise(connection, namespace)
            await note_entities(connection, namespace, [*ours, *theirs])


async def _members(
    connection: Connection, namespace: str, entity_id: UUID, other_id: UUID
) -> tuple[Sequence[UUID], Sequence[UUID], int]:
    """What each of the two is one with, and the revision, with the namespace locked."""
    row = await (await connection.execute(_LOCK, (namespace,))).fetchone()
    revision = row["revision"] if row else 0
    found = await components(connection, namespace, revision, (entity_id, other_id))
    return list(found[entity_id].members), list(found[other_id].members), revision


async def _raise(connection: Connection, namespace: str) -> int:
    row = await (await connection.execute(_RAISE, (namespace,))).fetchone()
    assert row is not None  # its row is locked
    return row["revision"]
