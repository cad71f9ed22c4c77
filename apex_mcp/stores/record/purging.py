"""Purge: one removal for rollback, cancel and forget. First a tombstone, then repeatable deletes, and one more pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import LONG_SECONDS, Database
from apex_mcp.stores.record.graph_changes import note_changes

_TOMBSTONE: LiteralString = """
WITH marked AS (
    INSERT INTO purges (version_id, ingestion_id)
    SELECT %(version)s, %(ingestion)s
    WHERE NOT EXISTS (SELECT 1 FROM versions WHERE id = %(version)s AND revision_from IS NOT NULL)
    ON CONFLICT (version_id) DO UPDATE SET passes = 0, next_pass_at = clock_timestamp() RETURNING version_id
)
INSERT INTO index_log (version_id) SELECT version_id FROM marked RETURNING version_id
"""

_PASSED: LiteralString = """
UPDATE purges SET passes = passes + 1,
    next_pass_at = CASE WHEN passes = 0 THEN clock_timestamp() + make_interval(secs => %(again)s) END
WHERE version_id = ANY(%(versions)s)
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

# Links are made under this lock only.
_LOCK_LINKS: LiteralString = """
SELECT n.name FROM namespaces n WHERE n.name IN (
    SELECT v.namespace FROM versions v WHERE v.id = ANY(%(versions)s)
      AND EXISTS (SELECT 1 FROM entity_links l WHERE l.version_id = v.id))
ORDER BY n.name FOR NO KEY UPDATE
"""

_UNLINK: LiteralString = "DELETE FROM entity_links WHERE version_id = ANY(%(versions)s) RETURNING a_id, b_id"

_PAIRS_WITHOUT_LINK: LiteralString = """
DELETE FROM entity_pairs p USING (SELECT DISTINCT a, b FROM unnest(%s::uuid[], %s::uuid[]) AS u(a, b)) AS gone
WHERE p.a_id = gone.a AND p.b_id = gone.b
  AND NOT EXISTS (SELECT 1 FROM entity_links l WHERE l.a_id = p.a_id AND l.b_id = p.b_id)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """A removal that is due: the version, and the ingestion that made it."""

    version_id: UUID
    ingestion_id: UUID


class PurgeStore:
    """Tombstones and what is left to remove."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tombstone(self, version_id: UUID, ingestion_id: UUID) -> bool:
        """From now on the version cannot be committed, and its removal is due; False if it is committed already.

        The ingestion's row is locked meanwhile, as it is by a commit, so one of the two comes first.
        """
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute("SELECT 1 FROM ingestions WHERE id = %s FOR UPDATE", (ingestion_id,))
            rows = await (
                await connection.execute(_TOMBSTONE, {"version": version_id, "ingestion": ingestion_id})
            ).fetchall()
            return bool(rows)

    async def due(self, *, limit: int = 200) -> list[Purge]:
        """Removals to do now, the oldest first."""
        rows = await self._database.fetch_all(
            "SELECT version_id, ingestion_id FROM purges WHERE next_pass_at <= clock_timestamp() "
            "ORDER BY next_pass_at LIMIT %s",
            (limit,),
        )
        return [Purge(version_id=row["version_id"], ingestion_id=row["ingestion_id"]) for row in rows]

    async def delete_rows(self, version_ids: Sequence[UUID]) -> None:
        """Remove versions from the record with all that hangs on them, and entities that nothing else names."""
        bound = {"versions": list(version_ids)}
        await self._unlink(version_ids)
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            named = [row["id"] for row in await (await connection.execute(_LOCK_NAMED, bound)).fetchall()]
            stated = [row["id"] for row in await (await connection.execute(_LOCK_STATED, bound)).fetchall()]
            await note_changes(connection, version_ids)
            await connection.execute("DELETE FROM versions WHERE id = ANY(%(versions)s)", bound)
            await connection.execute(_FACTS_WITHOUT_SOURCE, (stated,))
            await connection.execute(_ORPHANS, (named,))

    async def _unlink(self, version_ids: Sequence[UUID]) -> None:
        """Remove links of versions, and pairs that nothing else links.

        By itself: a commit locks what it names and then the namespace, so the two are not to be locked together here.
        """
        bound = {"versions": list(version_ids)}
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            if not await (await connection.execute(_LOCK_LINKS, bound)).fetchall():
                return
            await note_changes(connection, version_ids)
            pairs = await (await connection.execute(_UNLINK, bound)).fetchall()
            columns = [row["a_id"] for row in pairs], [row["b_id"] for row in pairs]
            await connection.execute(_PAIRS_WITHOUT_LINK, columns)

    async def passed(self, version_ids: Sequence[UUID], *, again_after_seconds: float) -> None:
        """Note that every store was told; the first pass is followed by one more after the longest step."""
        async with self._database.connection() as connection:
            await connection.execute(_PASSED, {"versions": list(version_ids), "again": again_after_seconds})
