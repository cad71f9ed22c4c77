"""Archives and backups that were made. They hold what is forgotten after, so they can be named then."""

from typing import Literal, LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import LONG_SECONDS, Database

_NOTE: LiteralString = """
INSERT INTO archives (kind, name, namespace, documents)
SELECT %(kind)s, %(name)s, %(namespace)s::text, count(*) FROM versions v
WHERE v.revision_from IS NOT NULL AND v.revision_to IS NULL AND v.tombstoned_at IS NULL
  AND (%(namespace)s::text IS NULL OR v.namespace = %(namespace)s)
RETURNING id
"""

Kind = Literal["export", "backup"]


class ArchiveLog:
    """Which were made."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, kind: Kind, name: str, namespace: str | None = None) -> UUID:
        """Note one, before its snapshot is taken: what is forgotten meanwhile may be in it."""
        row = await self._database.fetch_one(_NOTE, {"kind": kind, "name": name, "namespace": namespace})
        assert row is not None
        return row["id"]

    async def withdraw(self, archive_id: UUID) -> None:
        """It was not made after all."""
        async with self._database.connection(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute("DELETE FROM archives WHERE id = %s", (archive_id,))
