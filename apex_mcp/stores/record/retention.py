"""Retention: versions that were replaced long ago go, and what is known no more is said of the time before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.graph_changes import note_changes
from apex_mcp.stores.record.index_log import LOG
from apex_mcp.stores.record.purging import Purge
from apex_mcp.stores.record.versions import RAISE_REVISIONS

# By when it was replaced, not by when it came.
_TOMBSTONE: LiteralString = """
WITH old AS (
    SELECT v.id, r.committed_at FROM versions v
    JOIN revisions r ON r.namespace = v.namespace AND r.revision = v.revision_to
    WHERE v.tombstoned_at IS NULL AND r.committed_at < clock_timestamp() - make_interval(secs => %(keep)s)
    ORDER BY r.committed_at, v.id LIMIT %(limit)s)
UPDATE versions v SET tombstoned_at = clock_timestamp() FROM old WHERE v.id = old.id AND v.tombstoned_at IS NULL
RETURNING v.id, v.ingestion_id, v.namespace, old.committed_at AS replaced_at
"""

_PURGE: LiteralString = """
INSERT INTO purges (version_id, ingestion_id) SELECT * FROM unnest(%s::uuid[], %s::uuid[])
ON CONFLICT (version_id) DO UPDATE SET passes = 0, next_pass_at = clock_timestamp()
"""

# The last of them was still what was known until then.
_KNOWN_FROM: LiteralString = """
UPDATE namespaces n SET known_from = greatest(n.known_from, p.replaced_at)
FROM (SELECT namespace, max(replaced_at) AS replaced_at FROM unnest(%s::text[], %s::timestamptz[]) AS u(namespace, replaced_at)
      GROUP BY 1 ORDER BY 1) AS p
WHERE n.name = p.namespace
"""

# Nothing that began before can still be running, and what is kept of it are counts and times.
_OLD_PURGES: LiteralString = """
DELETE FROM purges p WHERE p.next_pass_at IS NULL AND p.requested_at < clock_timestamp() - make_interval(days => %s)
  AND NOT EXISTS (SELECT 1 FROM versions v WHERE v.id = p.version_id)
"""
_OLD_FORGETTINGS: LiteralString = (
    "DELETE FROM forgettings WHERE erased_at < clock_timestamp() - make_interval(days => %s)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What the record keeps of removals that are over, and keeps no longer."""

    purges: int
    forgettings: int


class RetentionStore:
    """What goes by its age."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prune(self, keep_seconds: float, *, limit: int = 200) -> list[Purge]:
        """Make versions that were replaced this long ago invisible for good, the oldest first, some at a time.

        What is returned is to be purged. From then on the namespace says since when what was known is known in full.

        Raises:
            Unavailable: the database does not answer; nothing was changed.
        """
        # Which namespaces are concerned the versions say, so those are locked first; whoever forgets locks the other way round.
        rows = await self._database.transact(
            lambda connection: _hide(connection, keep_seconds=keep_seconds, limit=limit)
        )
        return [Purge(version_id=row["id"], ingestion_id=row["ingestion_id"]) for row in rows]

    async def drop_old(self, *, purge_days: int, forgetting_days: int) -> Forgotten:
        """Remove what is kept of removals that were over this long ago. Raises Unavailable."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            purges = await connection.execute(_OLD_PURGES, (purge_days,))
            forgettings = await connection.execute(_OLD_FORGETTINGS, (forgetting_days,))
        return Forgotten(purges=purges.rowcount, forgettings=forgettings.rowcount)


async def _hide(connection: Connection, *, keep_seconds: float, limit: int) -> list[dict[str, Any]]:
    rows = await (await connection.execute(_TOMBSTONE, {"keep": keep_seconds, "limit": limit})).fetchall()
    if not rows:
        return []
    versions: Sequence[UUID] = [row["id"] for row in rows]
    await connection.execute(_PURGE, (versions, [row["ingestion_id"] for row in rows]))
    await connection.execute(LOG, (versions,))
    await note_changes(connection, versions)
    # An answer that was kept from before is none any more.
    await connection.execute(RAISE_REVISIONS, (sorted({row["namespace"] for row in rows}),))
    await connection.execute(
        _KNOWN_FROM, ([row["namespace"] for row in rows], [row["replaced_at"] for row in rows])
    )
    return rows
