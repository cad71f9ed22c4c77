"""Vectors of the names that a model found: owed to their versions until they are there, as passages' vectors are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.linking import VALUES
from apex_mcp.stores.record.visibility import CURRENT

_VERSIONS_AT_ONCE = 100

# As for passages: looks into an index, the newest first.
_OWING: LiteralString = f"""
SELECT id FROM (
    (SELECT v.id, v.ingestion_seq FROM versions v
     WHERE v.enriched_from IS NOT NULL AND v.names_embedded_with IS NULL AND {CURRENT}
     ORDER BY v.ingestion_seq DESC LIMIT %(limit)s)
    UNION ALL
    (SELECT v.id, v.ingestion_seq FROM versions v
     WHERE v.enriched_from IS NOT NULL AND v.names_embedded_with < %(embedder)s AND {CURRENT}
     ORDER BY v.ingestion_seq DESC LIMIT %(limit)s)
    UNION ALL
    (SELECT v.id, v.ingestion_seq FROM versions v
     WHERE v.enriched_from IS NOT NULL AND v.names_embedded_with > %(embedder)s AND {CURRENT}
     ORDER BY v.ingestion_seq DESC LIMIT %(limit)s)
) AS owing ORDER BY ingestion_seq DESC LIMIT %(limit)s
"""

_LACKING: LiteralString = """
SELECT s.entity_id, min(s.name) AS name FROM entity_sources s
LEFT JOIN entity_vectors x ON x.entity_id = s.entity_id AND x.embedder = %(embedder)s
WHERE s.version_id = ANY(%(versions)s) AND s.layer = 1 AND s.type <> ALL(%(values)s) AND x.entity_id IS NULL
GROUP BY s.entity_id ORDER BY s.entity_id LIMIT %(limit)s
"""

# Of another length than the record's vectors is none of its embedder, whatever it is called. A graph on a server shows vectors,
# and the commit that named these entities was before.
_KEEP: LiteralString = """
WITH kept AS (
    INSERT INTO entity_vectors (entity_id, embedder, vector)
    SELECT e.id, %(embedder)s, r.vector FROM unnest(%(entities)s::uuid[], %(vectors)s::bytea[]) AS r(id, vector)
    JOIN entities e ON e.id = r.id
    WHERE octet_length(r.vector) = coalesce(
        (SELECT octet_length(c.vector) FROM chunk_vectors c WHERE c.embedder = %(embedder)s LIMIT 1), octet_length(r.vector))
    ORDER BY e.id ON CONFLICT DO NOTHING RETURNING entity_id),
noted AS (
    INSERT INTO graph_changes (namespace, kind, id)
    SELECT e.namespace, 'entity', e.id FROM kept k JOIN entities e ON e.id = k.entity_id, identity i
    WHERE i.graph IS NOT NULL)
SELECT count(*) AS n FROM kept
"""

_MARK: LiteralString = """
UPDATE versions v SET names_embedded_with = %(embedder)s WHERE v.id = ANY(%(versions)s)
AND NOT EXISTS (SELECT 1 FROM entity_sources s
                LEFT JOIN entity_vectors x ON x.entity_id = s.entity_id AND x.embedder = %(embedder)s
                WHERE s.version_id = v.id AND s.layer = 1 AND s.type <> ALL(%(values)s) AND x.entity_id IS NULL)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedNames:
    """Versions whose names lack vectors, and up to so many of those names."""

    versions: list[UUID]
    names: dict[UUID, str]


class NameVectors:
    """What is kept of the names' meaning, by embedder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owed(self, embedder: str, *, limit: int) -> OwedNames:
        """Current versions whose names lack a vector of this embedder, the newest first, and the first of those names.

        None of the names may lack one: then the versions are still to be noted as done, by `bring`.
        """
        rows = await self._database.fetch_all(_OWING, {"embedder": embedder, "limit": _VERSIONS_AT_ONCE})
        versions = [row["id"] for row in rows]
        if not versions:
            return OwedNames(versions=[], names={})
        bound = {"embedder": embedder, "versions": versions, "values": list(VALUES), "limit": limit}
        lacking = await self._database.fetch_all(_LACKING, bound)
        return OwedNames(versions=versions, names={row["entity_id"]: row["name"] for row in lacking})

    async def keep(self, embedder: str, vectors: Mapping[UUID, bytes]) -> None:
        """Keep vectors of entities' names; of those that are gone nothing is kept."""
        async with self._database.connection(answer_seconds=LONG_SECONDS) as connection:
            await keep_name_vectors(connection, embedder, vectors)

    async def bring(self, embedder: str, owed: OwedNames, vectors: Sequence[bytes]) -> bool:
        """Keep vectors of owed names, and note which versions lack none any more; whether either was so."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            kept = await keep_name_vectors(connection, embedder, dict(zip(owed.names, vectors, strict=True)))
            bound = {"embedder": embedder, "versions": owed.versions, "values": list(VALUES)}
            marked = await connection.execute(_MARK, bound)
            return bool(kept or marked.rowcount)


async def keep_name_vectors(connection: Connection, embedder: str, vectors: Mapping[UUID, bytes]) -> int:
    """Keep vectors of entities' names; of those that are gone nothing is kept. How many were new."""
    bound = {"embedder": embedder, "entities": list(vectors), "vectors": list(vectors.values())}
    row = await (await connection.execute(_KEEP, bound)).fetchone()
    return int(row["n"]) if row else 0
