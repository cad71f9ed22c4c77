"""What would go, before it goes: counts, and the first of each kind by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Connection

_SHOWN = 20

_COUNTS: LiteralString = """
SELECT count(*) AS versions, coalesce(sum(chunk_count), 0) AS chunks,
    (SELECT min(created_at) FROM documents WHERE id = ANY(%(documents)s)) AS since
FROM versions WHERE document_id = ANY(%(documents)s) AND tombstoned_at IS NULL AND revision_from IS NOT NULL
"""

_UNFINISHED: LiteralString = """
SELECT count(*) AS n FROM ingestions WHERE document_id = ANY(%(documents)s) AND state IN ('pending', 'running')
"""

# The newest first; one that is not searchable yet, or never was, is known by its key.
_TITLES: LiteralString = """
SELECT d.id, d.key, coalesce(v.title, '') AS title FROM documents d
LEFT JOIN LATERAL (SELECT title, ingestion_seq FROM versions v WHERE v.document_id = d.id AND v.tombstoned_at IS NULL
                   AND v.revision_from IS NOT NULL ORDER BY v.number DESC LIMIT 1) AS v ON true
WHERE d.id = ANY(%(documents)s) ORDER BY v.ingestion_seq DESC NULLS FIRST, d.key LIMIT %(shown)s
"""

# Whether what these versions say is said by others, too. `said` has the name or sentence by which it is shown.
_SHARED: LiteralString = """
WITH gone AS MATERIALIZED (
    SELECT id FROM versions WHERE document_id = ANY(%(documents)s) AND tombstoned_at IS NULL AND revision_from IS NOT NULL),
"""

_BY_SHARING: LiteralString = """
judged AS MATERIALIZED (
    SELECT t.id, t.said, EXISTS (
        SELECT 1 FROM others o WHERE o.id = t.id AND o.version_id NOT IN (SELECT id FROM gone)) AS shared FROM touched t)
SELECT count(*) FILTER (WHERE NOT shared) AS going, count(*) FILTER (WHERE shared) AS staying,
       ARRAY(SELECT said FROM judged WHERE NOT shared ORDER BY said LIMIT %(shown)s) AS first_going,
       ARRAY(SELECT said FROM judged WHERE shared ORDER BY said LIMIT %(shown)s) AS first_staying
FROM judged
"""

_ENTITIES: LiteralString = f"""
{_SHARED}
touched AS MATERIALIZED (
    SELECT s.entity_id AS id, min(s.name) AS said FROM gone g JOIN entity_sources s ON s.version_id = g.id GROUP BY 1),
others AS (SELECT s.entity_id AS id, s.version_id FROM entity_sources s JOIN versions v ON v.id = s.version_id
           WHERE v.tombstoned_at IS NULL),
{_BY_SHARING}
"""

_FACTS: LiteralString = f"""
{_SHARED}
touched AS MATERIALIZED (
    SELECT s.fact_id AS id, min(s.sentence) AS said FROM gone g JOIN fact_sources s ON s.version_id = g.id GROUP BY 1),
others AS (SELECT s.fact_id AS id, s.version_id FROM fact_sources s JOIN versions v ON v.id = s.version_id
           WHERE v.tombstoned_at IS NULL),
{_BY_SHARING}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDocument:
    """A document by what a user knows it by."""

    id: UUID
    key: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """How many go, how many stay because something else names them, too, and the first of both."""

    going: int
    staying: int
    first_going: Sequence[str]
    first_staying: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What goes with some documents.

    Attributes:
        unfinished: ingestions that are taken back.
        first: some of the documents, the newest first.
        since: when the first of them was accepted for the first time.
    """

    documents: int
    versions: int
    chunks: int
    unfinished: int
    first: Sequence[ShownDocument]
    entities: Sharing
    facts: Sharing
    since: datetime | None


async def look_at_documents(connection: Connection, document_ids: Sequence[UUID]) -> Prospect:
    """What would go with these documents."""
    bound: dict[str, Any] = {"documents": list(document_ids), "shown": _SHOWN}
    async with connection.pipeline():
        cursors = [
            await connection.execute(query, bound) for query in (_COUNTS, _UNFINISHED, _ENTITIES, _FACTS)
        ]
        titles = await connection.execute(_TITLES, bound)
        counts, unfinished, entities, facts = [(await cursor.fetchall())[0] for cursor in cursors]
        first = [ShownDocument(**row) for row in await titles.fetchall()]
    return Prospect(
        documents=len(document_ids),
        versions=counts["versions"],
        chunks=int(counts["chunks"]),
        unfinished=unfinished["n"],
        first=first,
        entities=Sharing(**entities),
        facts=Sharing(**facts),
        since=counts["since"],
    )
