"""Vectors of passages: owed to their versions until they are there, as those of names are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.index_log import LOG, IndexUse, is_in_use
from apex_mcp.stores.record.visibility import CURRENT

_KEEP: LiteralString = """
INSERT INTO chunk_vectors (chunk_id, embedder, vector) SELECT c, %s, v FROM unnest(%s::uuid[], %s::bytea[]) AS r(c, v)
ON CONFLICT (chunk_id, embedder) DO NOTHING
"""

# Three looks into an index, newest versions first, since a backlog may be long: "is distinct from" would read every version.
_OWING: LiteralString = f"""
(SELECT v.id, v.ingestion_seq FROM versions v WHERE v.embedded_with IS NULL AND {CURRENT}
 ORDER BY v.ingestion_seq DESC LIMIT %(limit)s)
UNION ALL
(SELECT v.id, v.ingestion_seq FROM versions v WHERE v.embedded_with < %(embedder)s AND {CURRENT}
 ORDER BY v.ingestion_seq DESC LIMIT %(limit)s)
UNION ALL
(SELECT v.id, v.ingestion_seq FROM versions v WHERE v.embedded_with > %(embedder)s AND {CURRENT}
 ORDER BY v.ingestion_seq DESC LIMIT %(limit)s)
"""

_OWED: LiteralString = f"""
SELECT c.id, c.text, c.version_id FROM (
    SELECT * FROM ({_OWING}) AS owing ORDER BY ingestion_seq DESC LIMIT %(limit)s) AS v
JOIN chunks c ON c.version_id = v.id
LEFT JOIN chunk_vectors e ON e.chunk_id = c.id AND e.embedder = %(embedder)s
WHERE e.chunk_id IS NULL ORDER BY v.ingestion_seq DESC, c.ordinal LIMIT %(limit)s
"""

_COUNT_OWED: LiteralString = f"""
SELECT count(*) AS n FROM ({_OWING}) AS v JOIN chunks c ON c.version_id = v.id
LEFT JOIN chunk_vectors e ON e.chunk_id = c.id AND e.embedder = %(embedder)s WHERE e.chunk_id IS NULL
"""

_MARK: LiteralString = """
UPDATE versions v SET embedded_with = %(embedder)s WHERE v.id = ANY(%(versions)s)
AND NOT EXISTS (SELECT 1 FROM chunks c LEFT JOIN chunk_vectors e ON e.chunk_id = c.id AND e.embedder = %(embedder)s
                WHERE c.version_id = v.id AND e.chunk_id IS NULL)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedChunk:
    """A chunk without a vector."""

    id: UUID
    text: str
    version_id: UUID


class PassageVectors:
    """What is kept of the passages' meaning, by embedder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count_owed(self, embedder: str) -> int:
        """Number of chunks of current versions that lack a vector of this embedder."""
        row = await self._database.fetch_one(
            _COUNT_OWED, {"embedder": embedder, "limit": None}, answer_seconds=LONG_SECONDS
        )
        return int(row["n"]) if row else 0

    async def owed(self, embedder: str, *, limit: int) -> list[OwedChunk]:
        """Chunks of current versions that lack a vector of this embedder, those of the newest versions first."""
        rows = await self._database.fetch_all(_OWED, {"embedder": embedder, "limit": limit})
        return [OwedChunk(**row) for row in rows]

    async def bring(
        self, embedder: str, chunks: Sequence[OwedChunk], vectors: Sequence[bytes], *, index: IndexUse
    ) -> bool:
        """Store vectors of chunks, and note which versions lack none any more.

        Returns:
            False where nothing was stored, because the index that they were written to is not the one in use.
        """
        versions = list({chunk.version_id for chunk in chunks})
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            if not await is_in_use(connection, index):
                return False
            await keep_passage_vectors(connection, embedder, [chunk.id for chunk in chunks], vectors)
            await connection.execute(_MARK, {"embedder": embedder, "versions": versions})
            await connection.execute(LOG, (versions,))
        return True


async def keep_passage_vectors(
    connection: Connection, embedder: str, chunk_ids: Sequence[UUID], vectors: Sequence[bytes]
) -> None:
    """Keep vectors of passages; those that are there stay."""
    await connection.execute(_KEEP, (embedder, list(chunk_ids), list(vectors)))
