"""What goes into an archive, as rows: read in one snapshot, page by page, so that memory stays bounded.

The columns are the fields of docs/archive.md. Entities are told by their normalised names, passages by their place in a
version, so that ids can be made anew wherever the archive goes.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

from apex_mcp.errors import Code, NotFound
from apex_mcp.stores.record.database import Connection, Database

_VERSIONS_AT_ONCE = 64
# A version's text may be long.
_TEXTS_AT_ONCE = 16
_ROWS_AT_ONCE = 512

# A version that goes along is called `v`.
_CHOSEN: LiteralString = """
v.namespace = ANY(%(namespaces)s) AND v.revision_from IS NOT NULL AND v.tombstoned_at IS NULL
AND (%(past)s OR v.revision_to IS NULL)
"""

_IDS: LiteralString = (
    f"SELECT v.id FROM versions v WHERE {_CHOSEN} ORDER BY v.namespace, v.revision_from, v.ingestion_seq"
)

# In the order of the versions.
_PAGE: LiteralString = "unnest(%(ids)s::uuid[]) WITH ORDINALITY AS w(id, place)"

# Whether a version that goes along names an entity: what only others name does not.
_NAMES_A: LiteralString = f"""
EXISTS (SELECT 1 FROM entity_sources s JOIN versions v ON v.id = s.version_id WHERE s.entity_id = a.id AND {_CHOSEN})
"""
_NAMES_B: LiteralString = f"""
EXISTS (SELECT 1 FROM entity_sources s JOIN versions v ON v.id = s.version_id WHERE s.entity_id = b.id AND {_CHOSEN})
"""

_TOTALS: LiteralString = f"""
SELECT count(*) AS versions, count(DISTINCT v.document_id) AS documents,
       (SELECT count(*) FROM ingestions i WHERE i.namespace = ANY(%(namespaces)s) AND i.state IN ('pending', 'running'))
           AS pending_ingestions
FROM versions v WHERE {_CHOSEN}
"""

_NAMESPACES: LiteralString = """
SELECT n.name, n.revision, n.created_at, coalesce(e.last - e.first, 0) AS arrivals, e.first,
       CASE WHEN %(past)s THEN n.known_from ELSE now() END AS known_from
FROM namespaces n
CROSS JOIN LATERAL (SELECT min(seq) AS first, max(seq) AS last FROM entities WHERE namespace = n.name) AS e
WHERE n.name = ANY(%(namespaces)s) ORDER BY n.name
"""

_REVISIONS: LiteralString = """
SELECT namespace, revision, committed_at FROM revisions WHERE namespace = ANY(%(namespaces)s) ORDER BY namespace, revision
"""

_VERSIONS: LiteralString = f"""
SELECT x.id, x.namespace, d.key, d.created_at AS document_created_at, x.number,
       (SELECT v.id FROM versions v WHERE v.document_id = x.document_id AND v.number < x.number AND {_CHOSEN}
        ORDER BY v.number DESC LIMIT 1) AS previous,
       n.id = x.id AS newest, n.content_hash AS newest_hash,
       x.content_hash, x.title, x.uri, x.source_type, x.media_type, x.document_time, i.accepted_at, x.committed_at, x.metadata,
       x.warnings, x.revision_from, x.revision_to, x.enriched_from, m.usage, t.text, t.pages, t.headings,
       x.chunk_count AS chunks
FROM {_PAGE} JOIN versions x ON x.id = w.id JOIN documents d ON d.id = x.document_id
JOIN ingestions i ON i.id = x.ingestion_id JOIN version_texts t ON t.version_id = x.id
LEFT JOIN enrichments m ON m.version_id = x.id AND m.state = 'done'
CROSS JOIN LATERAL (
    SELECT v.id, v.content_hash FROM versions v
    WHERE v.document_id = x.document_id AND {_CHOSEN} ORDER BY v.number DESC LIMIT 1) AS n
ORDER BY w.place
"""

_CHUNKS: LiteralString = f"""
SELECT c.version_id AS version, c.ordinal, c.text, c.start_offset AS start, c.end_offset AS end, c.page_from, c.page_to,
       c.heading_path, c.tokens
FROM {_PAGE} JOIN chunks c ON c.version_id = w.id ORDER BY w.place, c.ordinal
"""

_VECTORS: LiteralString = f"""
SELECT c.version_id AS version, c.ordinal, e.vector
FROM {_PAGE} JOIN chunks c ON c.version_id = w.id JOIN chunk_vectors e ON e.chunk_id = c.id AND e.embedder = %(embedder)s
ORDER BY w.place, c.ordinal
"""

_ENTITIES: LiteralString = f"""
SELECT s.version_id AS version, s.layer, e.normalised AS entity, e.core, e.namespace, e.seq AS arrival, s.name, s.type, s.aliases,
       ARRAY(SELECT c.ordinal FROM chunks c WHERE c.id = ANY(s.chunk_ids) ORDER BY c.ordinal) AS chunks
FROM {_PAGE} JOIN entity_sources s ON s.version_id = w.id JOIN entities e ON e.id = s.entity_id
ORDER BY w.place, s.layer, e.seq
"""

_FACTS: LiteralString = f"""
SELECT s.version_id AS version, s.layer, a.normalised AS subject, f.predicate, f.object_text AS object, c.ordinal AS chunk,
       s.sentence, s.valid_at, s.invalid_at
FROM {_PAGE} JOIN fact_sources s ON s.version_id = w.id JOIN facts f ON f.id = s.fact_id JOIN entities a ON a.id = f.subject_id
JOIN chunks c ON c.id = s.chunk_id
ORDER BY w.place, s.layer, c.ordinal, a.normalised, f.predicate, f.object_text, s.valid_at
"""

_ANSWERS: LiteralString = f"""
SELECT a.version_id AS version, a.key, a.answer -> 'content' AS content,
       coalesce(a.answer ->> 'asked_by' = a.version_id::text, false) AS asked, a.created_at
FROM {_PAGE} JOIN model_answers a ON a.version_id = w.id ORDER BY w.place, a.key
"""

_LINKS: LiteralString = f"""
SELECT x.namespace, d.key, x.id AS version, l.layer, a.normalised AS a, b.normalised AS b, l.reason
FROM {_PAGE} JOIN versions x ON x.id = w.id JOIN documents d ON d.id = x.document_id
JOIN entity_links l ON l.version_id = x.id JOIN entities a ON a.id = l.a_id JOIN entities b ON b.id = l.b_id
WHERE {_NAMES_A} AND {_NAMES_B}
ORDER BY w.place, l.layer, a.normalised, b.normalised
"""

# All sources of a fact give the same beginning: it is a part of the fact's id.
_ENDS: LiteralString = f"""
SELECT x.namespace, d.key, x.id AS version,
       a.normalised AS subject, f.predicate, f.object_text AS object,
       (SELECT valid_at FROM fact_sources WHERE fact_id = f.id LIMIT 1) AS valid_at,
       b.normalised AS by_subject, g.predicate AS by_predicate, g.object_text AS by_object,
       (SELECT valid_at FROM fact_sources WHERE fact_id = g.id LIMIT 1) AS by_valid_at, n.invalid_at
FROM {_PAGE} JOIN versions x ON x.id = w.id JOIN documents d ON d.id = x.document_id
JOIN fact_ends n ON n.version_id = x.id
JOIN facts f ON f.id = n.fact_id JOIN entities a ON a.id = f.subject_id
JOIN facts g ON g.id = n.by_fact_id JOIN entities b ON b.id = g.subject_id
WHERE EXISTS (SELECT 1 FROM fact_sources s JOIN versions v ON v.id = s.version_id WHERE s.fact_id = f.id AND {_CHOSEN})
  AND EXISTS (SELECT 1 FROM fact_sources s JOIN versions v ON v.id = s.version_id WHERE s.fact_id = g.id AND {_CHOSEN})
ORDER BY w.place, n.invalid_at, f.id, g.id
"""

_SPLITS: LiteralString = f"""
SELECT x.namespace, a.normalised AS a, b.normalised AS b, x.revision_from, x.revision_to, x.created_at
FROM entity_splits x JOIN entities a ON a.id = x.a_id JOIN entities b ON b.id = x.b_id
WHERE x.namespace = ANY(%(namespaces)s) AND {_NAMES_A} AND {_NAMES_B}
ORDER BY x.namespace, x.revision_from, a.normalised, b.normalised
"""

_NAME_VECTORS: LiteralString = f"""
SELECT a.namespace, a.normalised AS entity, x.vector FROM entity_vectors x JOIN entities a ON a.id = x.entity_id
WHERE a.namespace = ANY(%(namespaces)s) AND x.embedder = %(embedder)s AND {_NAMES_A} ORDER BY a.namespace, a.seq
"""

# Versions that were made of files which may still be there.
_ORIGINALS: LiteralString = f"""
SELECT x.id, x.content_hash, x.ingestion_id FROM {_PAGE} JOIN versions x ON x.id = w.id
JOIN ingestions i ON i.id = x.ingestion_id
WHERE x.revision_to IS NULL AND i.request ->> 'source_type' = 'local_upload' ORDER BY w.place
"""

_OF_VERSIONS: dict[str, tuple[LiteralString, int]] = {
    "versions": (_VERSIONS, _TEXTS_AT_ONCE),
    "chunks": (_CHUNKS, _ROWS_AT_ONCE),
    "vectors": (_VECTORS, _ROWS_AT_ONCE),
    "entities": (_ENTITIES, _ROWS_AT_ONCE),
    "facts": (_FACTS, _ROWS_AT_ONCE),
    "answers": (_ANSWERS, _ROWS_AT_ONCE),
    "links": (_LINKS, _ROWS_AT_ONCE),
    "ends": (_ENDS, _ROWS_AT_ONCE),
    "originals": (_ORIGINALS, _ROWS_AT_ONCE),
}
_OF_NAMESPACES: dict[str, LiteralString] = {
    "namespaces": _NAMESPACES,
    "revisions": _REVISIONS,
    "splits": _SPLITS,
    "name_vectors": _NAME_VECTORS,
}

Page = list[dict[str, Any]]


class ArchiveRows:
    """Rows of one snapshot, by kind.

    Attributes:
        namespaces: which ones go along.
        embedder: whose vectors the record holds.
        versions, documents: how many go along.
        pending_ingestions: how many are accepted and not over; they do not.
    """

    def __init__(
        self, connection: Connection, namespaces: Sequence[str], embedder: str | None, *, past: bool
    ) -> None:
        self.namespaces = list(namespaces)
        self.embedder = embedder
        self.versions = self.documents = self.pending_ingestions = 0
        self._connection = connection
        self._bound = {"namespaces": self.namespaces, "past": past, "embedder": embedder}

    async def count(self) -> None:
        """Set the counts."""
        row = await (await self._connection.execute(_TOTALS, self._bound)).fetchone()
        assert row is not None
        self.versions, self.documents = row["versions"], row["documents"]
        self.pending_ingestions = row["pending_ingestions"]

    async def of_namespaces(self, kind: str) -> AsyncGenerator[Page]:
        """Rows of namespaces as a whole."""
        async for page in self._stream(kind, _OF_NAMESPACES[kind], self._bound, _ROWS_AT_ONCE):
            yield page

    async def of_versions(self, kind: str) -> AsyncGenerator[tuple[int, Page]]:
        """Rows that hang on versions, in the order in which these became current, and how many versions are behind."""
        query, at_once = _OF_VERSIONS[kind]
        done = 0
        async for ids in self._stream(f"ids_{kind}", _IDS, self._bound, _VERSIONS_AT_ONCE):
            bound = {**self._bound, "ids": [row["id"] for row in ids]}
            async for page in self._stream(kind, query, bound, at_once):
                yield done, page
            done += len(ids)

    async def _stream(
        self, name: str, query: LiteralString, bound: dict[str, Any], at_once: int
    ) -> AsyncGenerator[Page]:
        async with self._connection.cursor(name=f"archive_{name}") as cursor:
            await cursor.execute(query, bound)
            while page := await cursor.fetchmany(at_once):
                yield page


@asynccontextmanager
async def archive_rows(
    database: Database, namespace: str | None, *, past: bool
) -> AsyncGenerator[ArchiveRows]:
    """Open a snapshot of one namespace, or of all of them.

    Raises:
        NotFound: there is no such namespace.
    """
    async with database.snapshot() as connection:
        rows = await (
            await connection.execute(
                "SELECT n.name, i.embedder FROM identity i LEFT JOIN namespaces n ON %(one)s::text IS NULL OR n.name = %(one)s "
                "ORDER BY n.name",
                {"one": namespace},
            )
        ).fetchall()
        names = [row["name"] for row in rows if row["name"] is not None]
        if namespace is not None and not names:
            raise NotFound(
                "there is no memory of this name",
                code=Code.NOT_FOUND,
                next_step="`apex-mcp status` lists the namespaces",
            )
        found = ArchiveRows(connection, names, rows[0]["embedder"], past=past)
        await found.count()
        yield found
