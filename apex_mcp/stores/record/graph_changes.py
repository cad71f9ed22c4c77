"""The queue of what a graph index on a server has yet to be told; filled by commits and purges, while there is such an index."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Connection, Database
from apex_mcp.stores.record.visibility import CURRENT

_NOTE: LiteralString = """
WITH changed AS MATERIALIZED (
    SELECT v.id, v.namespace FROM versions v
    WHERE v.id = ANY(%s) AND v.revision_from IS NOT NULL AND (SELECT graph FROM identity) IS NOT NULL),
stated AS MATERIALIZED (SELECT s.fact_id FROM changed v JOIN fact_sources s ON s.version_id = v.id),
facts_changed AS (
    SELECT fact_id FROM stated
    UNION SELECT x.fact_id FROM changed v JOIN fact_ends x ON x.version_id = v.id
    UNION SELECT x.fact_id FROM stated s JOIN fact_ends x ON x.by_fact_id = s.fact_id)
INSERT INTO graph_changes (namespace, kind, id, predicate, object_id)
SELECT v.namespace, 'entity', s.entity_id, NULL, NULL::uuid FROM changed v JOIN entity_sources s ON s.version_id = v.id
UNION SELECT v.namespace, 'entity', l.a_id, NULL, NULL FROM changed v JOIN entity_links l ON l.version_id = v.id
UNION SELECT v.namespace, 'entity', l.b_id, NULL, NULL FROM changed v JOIN entity_links l ON l.version_id = v.id
UNION SELECT v.namespace, 'chunk', c.id, NULL, NULL FROM changed v JOIN chunks c ON c.version_id = v.id
UNION SELECT f.namespace, 'fact', f.subject_id, f.predicate, f.object_id FROM facts_changed c JOIN facts f ON f.id = c.fact_id
ORDER BY 2
"""

_NOTE_ENTITIES: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id)
SELECT %(namespace)s, 'entity', u.id FROM unnest(%(ids)s::uuid[]) AS u(id), identity i WHERE i.graph IS NOT NULL
"""

# What hangs on entities that are shown under another id now.
_HANGING: LiteralString = """
SELECT namespace, 'fact', subject_id, predicate, object_id FROM facts WHERE subject_id = ANY(%(ids)s)
UNION SELECT namespace, 'fact', subject_id, predicate, object_id FROM facts WHERE object_id = ANY(%(ids)s)
UNION SELECT %(namespace)s, 'chunk', u.id, NULL, NULL FROM entity_sources s CROSS JOIN LATERAL unnest(s.chunk_ids) AS u(id)
WHERE s.entity_id = ANY(%(ids)s)
"""
_NOTE_HANGING: LiteralString = (
    f"INSERT INTO graph_changes (namespace, kind, id, predicate, object_id) {_HANGING}"
)

# With the facts that theirs had ended.
_NOTE_FORGOTTEN: LiteralString = f"""
WITH noted AS (
    SELECT %(namespace)s::text AS namespace, 'entity' AS kind, u.id, NULL::text AS predicate, NULL::uuid AS object_id
    FROM unnest(%(ids)s::uuid[]) AS u(id)
    UNION {_HANGING}
    UNION SELECT e.namespace, 'fact', e.subject_id, e.predicate, e.object_id
    FROM facts f JOIN fact_ends x ON x.by_fact_id = f.id JOIN facts e ON e.id = x.fact_id
    WHERE f.subject_id = ANY(%(ids)s) OR f.object_id = ANY(%(ids)s))
INSERT INTO graph_changes (namespace, kind, id, predicate, object_id)
SELECT n.* FROM noted n, identity i WHERE i.graph IS NOT NULL ORDER BY n.kind DESC
"""

_NOTE_ALL: LiteralString = f"""
INSERT INTO graph_changes (namespace, kind, id, predicate, object_id)
SELECT namespace, kind, id, predicate, object_id FROM (
    SELECT namespace, 'entity' AS kind, 0 AS place, seq, id, NULL AS predicate, NULL::uuid AS object_id FROM entities
    UNION ALL
    SELECT v.namespace, 'chunk', 1, v.ingestion_seq, c.id, NULL, NULL FROM chunks c JOIN versions v ON v.id = c.version_id
    WHERE {CURRENT}
    UNION ALL
    (SELECT DISTINCT namespace, 'fact', 2, 0, subject_id, predicate, object_id FROM facts)) AS every
ORDER BY place, seq, id, predicate
"""

_NOTE_BEGINNING: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id)
SELECT name, 'entity', '00000000-0000-0000-0000-000000000000' FROM namespaces
"""

# By what it takes to write them: an entity may have a vector, a passage mentions many. The first is taken whatever it weighs.
_TAKE: LiteralString = """
SELECT namespace, kind, id, predicate, object_id, array_agg(seq) AS seqs
FROM (SELECT *, row_number() OVER (ORDER BY seq) AS place,
             sum(CASE kind WHEN 'fact' THEN 1 WHEN 'entity' THEN 5 ELSE 20 END) OVER (ORDER BY seq) AS weight
      FROM (SELECT * FROM graph_changes ORDER BY seq LIMIT %(limit)s) AS first) AS oldest
WHERE place = 1 OR weight <= %(limit)s
GROUP BY namespace, kind, id, predicate, object_id
"""

# A fact as it is found again when it is gone: its subject, predicate and object.
Stated = tuple[UUID, str, UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed in one namespace."""

    entities: list[UUID] = field(default_factory=list[UUID])
    chunks: list[UUID] = field(default_factory=list[UUID])
    facts: list[Stated] = field(default_factory=list[Stated])


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphChanges:
    """A page of the queue: changes by namespace, and the rows that they came from."""

    by_namespace: dict[str, Changes] = field(default_factory=dict[str, Changes])
    seqs: list[int] = field(default_factory=list[int])


async def note_changes(connection: Connection, version_ids: Sequence[UUID]) -> None:
    """Within a transaction that makes versions current, past or enriched, or removes them: what a graph must hear of.

    To be called after they were changed, but before their rows are deleted.
    """
    await connection.execute(_NOTE, (list(version_ids),))


async def note_entities(connection: Connection, namespace: str, entity_ids: Sequence[UUID]) -> None:
    """Within a transaction that splits entities or joins them again: what a graph must hear of."""
    await connection.execute(_NOTE_ENTITIES, {"namespace": namespace, "ids": list(entity_ids)})


async def note_forgotten_entities(connection: Connection, namespace: str, entity_ids: Sequence[UUID]) -> None:
    """Within a transaction that forgets entities, before they are deleted: them, their facts and what names them."""
    await connection.execute(_NOTE_FORGOTTEN, {"namespace": namespace, "ids": list(entity_ids)})


class GraphQueue:
    """The queue, and which graph index it is for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def token(self) -> str | None:
        """Names the graph index that has been told of everything but what waits; None where there is none."""
        row = await self._database.fetch_one("SELECT graph FROM identity")
        return row["graph"] if row else None

    async def begin(self, token: str) -> None:
        """From now on every change is noted, for the index of this name."""
        async with self._database.transaction() as connection:
            # Waits for transactions that may have found nothing to note.
            await connection.execute("LOCK TABLE versions, entity_splits IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute("DELETE FROM graph_changes")
            await connection.execute("UPDATE identity SET graph = %s", (token,))
            # Until everything is put, too, readers see that something waits.
            await connection.execute(_NOTE_BEGINNING)

    async def end(self, token: str | None = None) -> None:
        """There is no graph index any more, or none of this name: nothing is noted until the next one begins."""
        async with self._database.transaction() as connection:
            ended = await connection.execute(
                "UPDATE identity SET graph = NULL WHERE graph = coalesce(%s::text, graph)", (token,)
            )
            if ended.rowcount:
                await connection.execute("DELETE FROM graph_changes")

    async def put_everything(self) -> None:
        """The whole record is to be told anew."""
        async with self._database.transaction() as connection:
            await connection.execute(_NOTE_ALL)

    async def put_hanging_on(self, namespace: str, entity_ids: Collection[UUID]) -> None:
        """Facts and passages of entities that are shown under another id now."""
        async with self._database.connection() as connection:
            await connection.execute(_NOTE_HANGING, {"namespace": namespace, "ids": list(entity_ids)})

    async def take(self, limit: int) -> GraphChanges:
        """The oldest changes, up to so many facts, a fifth of that of entities, or a twentieth of passages.

        They stay until they are `done`.
        """
        page = GraphChanges()
        for row in await self._database.fetch_all(_TAKE, {"limit": limit}):
            changes = page.by_namespace.setdefault(row["namespace"], Changes())
            if row["kind"] == "fact":
                changes.facts.append((row["id"], row["predicate"], row["object_id"]))
            else:
                (changes.entities if row["kind"] == "entity" else changes.chunks).append(row["id"])
            page.seqs.extend(row["seqs"])
        return page

    async def done(self, page: GraphChanges) -> None:
        """The index was told of these; what changed again meanwhile has rows of its own."""
        async with self._database.connection() as connection:
            await connection.execute("DELETE FROM graph_changes WHERE seq = ANY(%s)", (page.seqs,))

    async def waiting(self) -> int:
        """Number of changes that wait."""
        row = await self._database.fetch_one("SELECT count(*) AS n FROM graph_changes")
        return int(row["n"]) if row else 0

    async def has_work(self) -> bool:
        """Whether something waits, or no index has been begun."""
        row = await self._database.fetch_one(
            "SELECT graph IS NULL OR EXISTS (SELECT 1 FROM graph_changes) AS work FROM identity"
        )
        return bool(row and row["work"])

    async def complete_for(self, namespace: str) -> str | None:
        """The index's name, if it has been told of everything in this namespace."""
        row = await self._database.fetch_one(
            "SELECT graph FROM identity WHERE NOT EXISTS (SELECT 1 FROM graph_changes WHERE namespace = %s)",
            (namespace,),
        )
        return row["graph"] if row else None
