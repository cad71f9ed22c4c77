"""What a vector index must hold of the record, counted by version: to compare, without reading any text."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database

_COUNTED: LiteralString = """
SELECT v.id, v.revision_from, v.revision_to, count(c.id) AS points, count(e.chunk_id) AS vectors
FROM versions v LEFT JOIN chunks c ON c.version_id = v.id
LEFT JOIN chunk_vectors e ON e.chunk_id = c.id AND e.embedder = %(embedder)s
WHERE v.id = ANY(%(versions)s) AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL GROUP BY v.id
"""

_PAGE: LiteralString = """
SELECT id FROM versions WHERE id > %s AND tombstoned_at IS NULL AND revision_from IS NOT NULL ORDER BY id LIMIT %s
"""

# Whose purge is not over may still be written to by a step that was paused, and is removed once more.
_ACCOUNTED: LiteralString = """
SELECT id FROM versions WHERE id = ANY(%(versions)s)
UNION SELECT version_id FROM purges WHERE version_id = ANY(%(versions)s) AND next_pass_at IS NOT NULL
"""

_RUNNING: LiteralString = (
    "SELECT id, document_id, claim FROM ingestions WHERE state = 'running' AND claim IS NOT NULL"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What an index must hold of one version: its points, so many at least with vectors; if it is past, when it was current."""

    version_id: UUID
    points: int
    vectors: int
    retired: tuple[int, int] | None


class Holdings:
    """The record's side of comparing an index."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def every(self, embedder: str | None, *, page: int = 500) -> AsyncGenerator[list[Due]]:
        """Every version that an index holds, in pages."""
        after = UUID(int=0)
        while rows := await self._database.fetch_all(_PAGE, (after, page), answer_seconds=LONG_SECONDS):
            versions = [row["id"] for row in rows]
            yield await self.of(versions, embedder)
            after = versions[-1]

    async def of(self, version_ids: Sequence[UUID], embedder: str | None) -> list[Due]:
        """What an index must hold of these; those that it must not hold are left out."""
        rows = await self._database.fetch_all(
            _COUNTED, {"versions": list(version_ids), "embedder": embedder}, answer_seconds=LONG_SECONDS
        )
        return [_due(row) for row in rows]

    async def unaccounted(self, version_ids: Sequence[UUID]) -> set[UUID]:
        """Of these the versions of which nothing is to be in an index, by nobody: neither stored, nor being written or purged."""
        async with self._database.snapshot(answer_seconds=LONG_SECONDS) as connection:
            found = await _ids(connection, _ACCOUNTED, {"versions": list(version_ids)})
            running = await (await connection.execute(_RUNNING)).fetchall()
        writing = {ids.version_id(row["document_id"], row["id"], row["claim"]) for row in running}
        return set(version_ids) - found - writing


def _due(row: dict[str, Any]) -> Due:
    past = row["revision_to"] is not None
    return Due(
        version_id=row["id"],
        points=row["points"],
        vectors=row["vectors"],
        retired=(row["revision_from"], row["revision_to"]) if past else None,
    )


async def _ids(connection: Connection, query: LiteralString, params: dict[str, Any]) -> set[UUID]:
    return {row["id"] for row in await (await connection.execute(query, params)).fetchall()}
