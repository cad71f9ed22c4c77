"""The queue of what a graph index on a server has yet to be told; filled by commits and purges, while there is such an index."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
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
UNION SELECT v.namespace, 'entity', n.id, NULL, NULL FROM changed v JOIN entity_sources s ON s.version_id = v.id
    CROSS JOIN LATERAL unnest(s.alias_keys) AS k(key) JOIN entities n ON n.namespace = v.namespace AND n.normalised = k.key
UNION SELECT v.namespace, 'chunk', c.id, NULL, NULL FROM changed v JOIN chunks c ON c.version_id = v.id
UNION SELECT f.namespace, 'fact', f.subject_id, f.predicate, f.object_id FROM facts_changed c JOIN facts f ON f.id = c.fact_id
ORDER BY 2
"""

_NOTE_ENTITIES: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id)
SELECT %(namespace)s, 'entity', u.id FROM unnest(%(ids)s::uuid[]) AS u(id), identity i WHERE i.graph IS NOT NULL
"""

# What hangs on entities that are shown under another id now, with the facts that theirs had ended.
_HANGING: LiteralString = """
SELECT namespace, 'fact', subject_id, predicate, object_id FROM facts WHERE subject_id = ANY(%(ids)s)
UNION SELECT namespace, 'fact', subject_id, predicate, object_id FROM facts WHERE object_id = ANY(%(ids)s)
UNION SELECT e.namespace, 'fact', e.subject_id, e.predicate, e.object_id
FROM facts f JOIN fact_ends x ON x.by_fact_id = f.id JOIN facts e ON e.id = x.fact_id
WHERE f.subject_id = ANY(%(ids)s) OR f.object_id = ANY(%(ids)s)
UNION SELECT %(namespace)s, 'chunk', u.id, NULL, NULL FROM entity_sources s CROSS JOIN LATERAL unnest(s.chunk_ids) AS u(id)
WHERE s.entity_id = ANY(%(ids)s)
"""
_NOTE_HANGING: LiteralString = (
    f"INSERT INTO graph_changes (namespace, kind, id, predicate, object_id) {_HANGING}"
)

_NOTE_FORGOTTEN: LiteralString = f"""
WITH noted AS (
    SELECT %(namespace)s::text AS namespace, 'entity' AS kind, u.id, NULL::text AS predicate, NULL::uuid AS object_id
    FROM unnest(%(ids)s::uuid[]) AS u(id)
    UNION SELECT n.namespace, 'entity', n.id, NULL, NULL FROM entity_aliases a
    JOIN entities n ON n.namespace = a.namespace AND n.normalised = a.key WHERE a.entity_id = ANY(%(ids)s)
    UNION {_HANGING})
INSERT INTO graph_changes (namespace, kind, id, predicate, object_id)
SELECT n.* FROM noted n, identity i WHERE i.graph IS NOT NULL ORDER BY n.kind DESC
"""

# Rows of no namespace are marks with nothing to write. Once this one is taken away, a graph is rid of what was forgotten
# before it: nobody who reads waits for it, and it outlives a graph that is begun anew, which holds all until it was cleared.
_NOTE_FORGETTING: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id)
SELECT '', 'forgetting', %(id)s FROM identity i WHERE i.graph IS NOT NULL OR %(graph_in_use)s
"""
FORGETTING_WAITS: LiteralString = (
    "EXISTS (SELECT 1 FROM graph_changes g WHERE g.namespace = '' AND g.kind = 'forgetting' AND g.id = f.id)"
)

# A mark says that everything before it was told: of an index that was begun anew meanwhile that is not so.
_DONE: LiteralString = """
DELETE FROM graph_changes WHERE seq = ANY(%(seqs)s)
AND (kind <> 'forgetting' OR EXISTS (SELECT 1 FROM identity WHERE graph = %(token)s))
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

_MARK: LiteralString = "SELECT graph AS token, graph_told AS told FROM identity"

_FORGET_CHANGES: LiteralString = "DELETE FROM graph_changes WHERE kind <> 'forgetting'"

# For this one everybody who reads waits, of whatever namespace: it is taken away with the first page of a graph that was cleared.
_NOTE_BEGINNING: LiteralString = """
INSERT INTO graph_changes (namespace, kind, id) VALUES ('', 'beginning', '00000000-0000-0000-0000-000000000000')
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

# Before the rows go: what they told is in the graph, and counted there, already.
_TOLD: LiteralString = """
UPDATE identity SET graph_told = greatest(graph_told, %(told)s) WHERE graph = %(token)s
"""

# A fact as it is found again when it is gone: its subject, predicate and object.
Stated = tuple[UUID, str, UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed in one namespace."""

    entities: list[UUID] = field(default_factory=list[UUID])
    chunks: list[UUID] = field(default_factory=list[UUID])
    facts: list[Stated] = field(default_factory=list[Stated])


@dataclass(frozen=True, slots=True)
class GraphMark:
    """Which graph index, and how many pages of changes it was told.

    The graph counts first. So it never knows of fewer than the record, unless an older state of it was put back.
    """

    token: str
    told: int

    def covers(self, other: "GraphMark") -> bool:
        """Whether a graph of this mark has all that one of the other has."""
        return self.token == other.token and self.told >= other.told


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


async def note_forgetting(connection: Connection, forgetting_id: UUID, *, graph_in_use: bool) -> bool:
    """At the end of a transaction that forgets: a graph is rid of it when it was told of all that was noted before.

    Args:
        connection: with the transaction.
        forgetting_id: what `FORGETTING_WAITS` asks for.
        graph_in_use: there is a graph's server, whether or not its graph was begun: it may still hold an earlier one.

    Returns:
        Whether a graph is to be told.
    """
    bound = {"id": forgetting_id, "graph_in_use": graph_in_use}
    return (await connection.execute(_NOTE_FORGETTING, bound)).rowcount > 0


class GraphQueue:
    """The queue, and which graph index it is for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def mark(self) -> GraphMark | None:
        """Of the graph index that has been told of everything but what waits; None where there is none."""
        row = await self._database.fetch_one(f"{_MARK} WHERE graph IS NOT NULL")
        return GraphMark(**row) if row else None

    async def begin(self, token: str) -> None:
        """From now on every change is noted, for the index of this name."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            # Waits for transactions that may have found nothing to note.
            await connection.execute("LOCK TABLE versions, entity_splits IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute("UPDATE identity SET graph = %s, graph_told = 0", (token,))
            await connection.execute(_FORGET_CHANGES)
            await connection.execute(_NOTE_BEGINNING)

    async def begin_anew(self, token: str | None = None) -> None:
        """The graph index, or the one of this name, is not to be read any more: whoever writes it begins another one."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            ended = await connection.execute(
                "UPDATE identity SET graph = NULL WHERE graph = coalesce(%s::text, graph)", (token,)
            )
            if ended.rowcount:
                await connection.execute(_FORGET_CHANGES)

    async def end(self) -> None:
        """There is no graph index any more: nothing is noted until the next one begins, and nothing waits for it."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute("UPDATE identity SET graph = NULL WHERE graph IS NOT NULL")
            await connection.execute("DELETE FROM graph_changes")

    async def put_everything(self) -> None:
        """The whole record is to be told anew."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute(_NOTE_ALL)

    async def put_hanging_on(self, namespace: str, entity_ids: Collection[UUID]) -> None:
        """Facts and passages of entities that are shown under another id now."""
        async with self._database.connection(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute(_NOTE_HANGING, {"namespace": namespace, "ids": list(entity_ids)})

    async def take(self, limit: int) -> GraphChanges:
        """The oldest changes, up to so many facts, a fifth of that of entities, or a twentieth of passages.

        They stay until they are `done`.
        """
        page = GraphChanges()
        for row in await self._database.fetch_all(_TAKE, {"limit": limit}):
            page.seqs.extend(row["seqs"])
            if not row["namespace"]:
                continue
            changes = page.by_namespace.setdefault(row["namespace"], Changes())
            if row["kind"] == "fact":
                changes.facts.append((row["id"], row["predicate"], row["object_id"]))
            else:
                (changes.entities if row["kind"] == "entity" else changes.chunks).append(row["id"])
        return page

    async def done(self, page: GraphChanges, mark: GraphMark) -> None:
        """The index of this name was told of these, and counts so many; what changed again meanwhile has rows of its own."""
        async with self._database.transaction() as connection:
            await connection.execute(_TOLD, {"told": mark.told, "token": mark.token})
            await connection.execute(_DONE, {"seqs": page.seqs, "token": mark.token})

    async def waiting(self) -> int:
        """Number of changes that wait."""
        row = await self._database.fetch_one("SELECT count(*) AS n FROM graph_changes")
        return int(row["n"]) if row else 0

    async def forgettings_waiting(self) -> bool:
        """Whether an index may still hold something that was forgotten."""
        row = await self._database.fetch_one(
            "SELECT EXISTS (SELECT 1 FROM graph_changes WHERE namespace = '' AND kind = 'forgetting') AS some"
        )
        return bool(row and row["some"])

    async def has_work(self) -> bool:
        """Whether something waits, or no index has been begun."""
        row = await self._database.fetch_one(
            "SELECT graph IS NULL OR EXISTS (SELECT 1 FROM graph_changes) AS work FROM identity"
        )
        return bool(row and row["work"])

    async def complete_for(self, namespace: str) -> GraphMark | None:
        """The index's mark, if it has been told of everything in this namespace."""
        row = await self._database.fetch_one(
            f"{_MARK} WHERE graph IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM graph_changes WHERE namespace IN ('', %s) AND kind <> 'forgetting')",
            (namespace,),
        )
        return GraphMark(**row) if row else None
