"""Purge: one removal for rollback, cancel and forget. First a tombstone, then repeatable deletes, and further passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import faults
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.graph_changes import note_changes

_COLUMNS: LiteralString = "version_id, ingestion_id, document_id, forgetting_id, forgets"

_TOMBSTONE: LiteralString = f"""
WITH marked AS (
    INSERT INTO purges (version_id, ingestion_id)
    SELECT %(version)s, %(ingestion)s
    WHERE NOT EXISTS (SELECT 1 FROM versions WHERE id = %(version)s AND revision_from IS NOT NULL)
    ON CONFLICT (version_id) DO UPDATE SET passes = 0, next_pass_at = clock_timestamp() RETURNING *
),
logged AS (INSERT INTO index_log (version_id) SELECT version_id FROM marked)
SELECT {_COLUMNS} FROM marked
"""

_PASSED: LiteralString = """
UPDATE purges SET passes = passes + 1,
    next_pass_at = clock_timestamp() + make_interval(secs => (%(again)s::float8[])[passes + 1])
WHERE version_id = ANY(%(versions)s)
"""

_REMOVED: LiteralString = """
UPDATE forgettings f SET removed_at = clock_timestamp()
WHERE f.removed_at IS NULL AND f.id IN (SELECT forgetting_id FROM purges WHERE version_id = ANY(%(versions)s))
  AND NOT EXISTS (SELECT 1 FROM purges p WHERE p.forgetting_id = f.id AND p.passes = 0)
"""

# A commit that names one of these holds its row until it is over; what it wrote is seen by the statements that follow.
_LOCK_NAMED: LiteralString = """
SELECT e.id FROM entities e WHERE e.id IN (
    SELECT entity_id FROM entity_sources WHERE version_id = ANY(%(versions)s)
    UNION SELECT f.subject_id FROM facts f JOIN fact_sources s ON s.fact_id = f.id WHERE s.version_id = ANY(%(versions)s))
ORDER BY e.id FOR UPDATE
"""

_LOCK_STATED: LiteralString = """
SELECT f.id FROM facts f WHERE f.id IN (SELECT fact_id FROM fact_sources WHERE version_id = ANY(%(versions)s))
ORDER BY f.id FOR UPDATE
"""

_FACTS_WITHOUT_SOURCE: LiteralString = """
DELETE FROM facts f WHERE f.id = ANY(%s) AND NOT EXISTS (SELECT 1 FROM fact_sources s WHERE s.fact_id = f.id)
"""

_ORPHANS: LiteralString = """
DELETE FROM entities e WHERE e.id = ANY(%s)
  AND NOT EXISTS (SELECT 1 FROM entity_sources s WHERE s.entity_id = e.id)
"""

_ALIASES_WITHOUT_SOURCE: LiteralString = """
DELETE FROM entity_aliases a WHERE a.entity_id = ANY(%s)
  AND NOT EXISTS (SELECT 1 FROM entity_sources s WHERE s.entity_id = a.entity_id AND a.key = ANY(s.alias_keys))
"""

# Accepting and committing lock a document's row, too: by the statement that follows it is settled what hangs on it.
_LOCK_DOCUMENTS: LiteralString = "SELECT id FROM documents WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

_DOCUMENTS_WITHOUT_ANYTHING: LiteralString = """
DELETE FROM documents d WHERE d.id = ANY(%s)
  AND NOT EXISTS (SELECT 1 FROM ingestions i WHERE i.document_id = d.id)
  AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.document_id = d.id)
RETURNING d.namespace
"""

_WHOLE: LiteralString = "SELECT 1 FROM forgettings WHERE id = ANY(%s) AND kind = 'namespace' LIMIT 1"

_LOCK_NAMESPACES: LiteralString = "SELECT name FROM namespaces WHERE name = ANY(%s) ORDER BY name FOR UPDATE"

_EMPTY_NAMESPACES: LiteralString = """
DELETE FROM namespaces n WHERE n.name = ANY(%s) AND NOT EXISTS (SELECT 1 FROM documents d WHERE d.namespace = n.name)
"""

# Links are made under this lock only.
_LOCK_LINKS: LiteralString = """
SELECT n.name FROM namespaces n WHERE n.name IN (
    SELECT v.namespace FROM versions v WHERE v.id = ANY(%(versions)s)
      AND EXISTS (SELECT 1 FROM entity_links l WHERE l.version_id = v.id))
ORDER BY n.name FOR NO KEY UPDATE
"""

_UNLINK: LiteralString = "DELETE FROM entity_links WHERE version_id = ANY(%(versions)s) RETURNING a_id, b_id"

PAIRS_WITHOUT_LINK: LiteralString = """
DELETE FROM entity_pairs p USING (SELECT DISTINCT a, b FROM unnest(%s::uuid[], %s::uuid[]) AS u(a, b)) AS gone
WHERE p.a_id = gone.a AND p.b_id = gone.b
  AND NOT EXISTS (SELECT 1 FROM entity_links l WHERE l.a_id = p.a_id AND l.b_id = p.b_id)
"""


@dataclass(frozen=True, slots=True)
class Named:
    """Entities and facts that versions name; their rows are locked."""

    entities: list[UUID]
    facts: list[UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """A removal that is due: the version, and the ingestion that made it.

    Attributes:
        forgets: its document was forgotten: what is staged or cached of it goes as well, and in the end the document.
    """

    version_id: UUID
    ingestion_id: UUID
    document_id: UUID | None = None
    forgetting_id: UUID | None = None
    forgets: bool = False


class PurgeStore:
    """Tombstones and what is left to remove."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tombstone(self, version_id: UUID, ingestion_id: UUID) -> Purge | None:
        """From now on the version cannot be committed, and its removal is due; None if it is committed already.

        The ingestion's row is locked meanwhile, as it is by a commit, so one of the two comes first.
        """
        with faults.around("record.purge_tombstone"):
            return await self._tombstone(version_id, ingestion_id)

    async def _tombstone(self, version_id: UUID, ingestion_id: UUID) -> Purge | None:
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute("SELECT 1 FROM ingestions WHERE id = %s FOR UPDATE", (ingestion_id,))
            row = await (
                await connection.execute(_TOMBSTONE, {"version": version_id, "ingestion": ingestion_id})
            ).fetchone()
            return _purge(row) if row else None

    async def due(self, *, limit: int = 200) -> list[Purge]:
        """Removals to do now, the oldest first."""
        rows = await self._database.fetch_all(
            f"SELECT {_COLUMNS} FROM purges WHERE next_pass_at <= clock_timestamp() ORDER BY next_pass_at LIMIT %s",
            (limit,),
        )
        return [_purge(row) for row in rows]

    async def delete_rows(self, version_ids: Sequence[UUID]) -> None:
        """Remove versions from the record with all that hangs on them, and entities that nothing else names."""
        bound = {"versions": list(version_ids)}
        await self._unlink(version_ids)

        async def delete(connection: Connection) -> None:
            named = await lock_named(connection, version_ids)
            await note_changes(connection, version_ids)
            await connection.execute("DELETE FROM versions WHERE id = ANY(%(versions)s)", bound)
            await delete_unnamed(connection, named)

        await self._database.transact(delete)

    async def delete_documents(self, purges: Sequence[Purge]) -> None:
        """Remove forgotten documents on which nothing hangs any more, and a namespace that was forgotten with its last one."""
        documents = [one.document_id for one in purges if one.forgets and one.document_id is not None]
        forgettings = [one.forgetting_id for one in purges if one.forgetting_id is not None]

        async def delete(connection: Connection) -> None:
            await connection.execute(_LOCK_DOCUMENTS, (documents,))
            gone = await (await connection.execute(_DOCUMENTS_WITHOUT_ANYTHING, (documents,))).fetchall()
            if not gone or not await (await connection.execute(_WHOLE, (forgettings,))).fetchall():
                return
            await delete_empty_namespaces(connection, sorted({row["namespace"] for row in gone}))

        if documents:
            await self._database.transact(delete)

    async def _unlink(self, version_ids: Sequence[UUID]) -> None:
        """Remove links of versions, and pairs that nothing else links.

        By itself: a commit locks what it names and then the namespace, so the two are not to be locked together here.
        """
        bound = {"versions": list(version_ids)}

        async def unlink(connection: Connection) -> None:
            if not await (await connection.execute(_LOCK_LINKS, bound)).fetchall():
                return
            await note_changes(connection, version_ids)
            pairs = await (await connection.execute(_UNLINK, bound)).fetchall()
            columns = [row["a_id"] for row in pairs], [row["b_id"] for row in pairs]
            await connection.execute(PAIRS_WITHOUT_LINK, columns)

        await self._database.transact(unlink)

    async def passed(self, version_ids: Sequence[UUID], *, again_after_seconds: Sequence[float]) -> None:
        """Note that every store was told; the first pass is followed by one more after each of these."""
        async with self._database.connection() as connection:
            await connection.execute(
                _PASSED, {"versions": list(version_ids), "again": list(again_after_seconds)}
            )
            # A statement of its own: of two who note the last ones, the later one sees both.
            await connection.execute(_REMOVED, {"versions": list(version_ids)})


async def lock_named(connection: Connection, version_ids: Sequence[UUID]) -> Named:
    """Lock what versions name, to the end of the transaction: no commit that names it comes in between."""
    bound = {"versions": list(version_ids)}
    entities = await (await connection.execute(_LOCK_NAMED, bound)).fetchall()
    facts = await (await connection.execute(_LOCK_STATED, bound)).fetchall()
    return Named([row["id"] for row in entities], [row["id"] for row in facts])


async def delete_unnamed(connection: Connection, named: Named) -> None:
    """Remove those of these entities, aliases and facts that no version names any more."""
    await connection.execute(_FACTS_WITHOUT_SOURCE, (named.facts,))
    await connection.execute(_ORPHANS, (named.entities,))
    await connection.execute(_ALIASES_WITHOUT_SOURCE, (named.entities,))


async def delete_empty_namespaces(connection: Connection, namespaces: Sequence[str]) -> None:
    """Remove those of the namespaces in which no document is, with the names and revisions that are left of them."""
    await connection.execute(_LOCK_NAMESPACES, (list(namespaces),))
    await connection.execute(_EMPTY_NAMESPACES, (list(namespaces),))


def _purge(row: dict[str, Any]) -> Purge:
    return Purge(**row)
