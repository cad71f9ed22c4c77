"""Reads: each in one snapshot, showing what is visible in one namespace at one revision."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.stores.record.database import Connection, Database

# A version counts where the asked revision lies between its own.
_VISIBLE: LiteralString = """
v.namespace = %(namespace)s AND v.tombstoned_at IS NULL AND v.revision_from <= %(revision)s
AND (v.revision_to IS NULL OR v.revision_to > %(revision)s)
"""

_SOURCE: LiteralString = """
v.document_id, v.id AS version_id, v.number, v.title, v.uri, v.source_type, v.media_type, v.document_time, v.metadata,
v.committed_at, v.revision_to IS NULL AS current, d.key
"""

_HYDRATE: LiteralString = f"""
SELECT c.id AS chunk_id, c.text, c.start_offset, c.end_offset, c.page_from, c.page_to, c.heading_path, {_SOURCE},
       ARRAY(SELECT s.name FROM entity_sources s WHERE s.version_id = c.version_id AND c.id = ANY(s.chunk_ids)
             ORDER BY s.name LIMIT 12) AS entities
FROM chunks c JOIN versions v ON v.id = c.version_id JOIN documents d ON d.id = v.document_id
WHERE c.id = ANY(%(chunks)s) AND {_VISIBLE}
"""

# Chunks that name one of these entities, those of the newest documents first.
_CHUNKS_NAMING: LiteralString = f"""
SELECT u.chunk_id, count(*) AS named FROM entity_sources s JOIN versions v ON v.id = s.version_id
CROSS JOIN LATERAL unnest(s.chunk_ids) AS u(chunk_id)
WHERE s.entity_id = ANY(%(entities)s) AND {_VISIBLE}
GROUP BY u.chunk_id, v.ingestion_seq ORDER BY named DESC, v.ingestion_seq DESC LIMIT %(limit)s
"""

_KNOWN_ENTITIES: LiteralString = f"""
SELECT DISTINCT e.id FROM entities e JOIN entity_sources s ON s.entity_id = e.id JOIN versions v ON v.id = s.version_id
WHERE e.namespace = %(namespace)s AND e.id = ANY(%(ids)s) AND {_VISIBLE}
"""

_FIND_ENTITIES: LiteralString = f"""
SELECT e.id, mode() WITHIN GROUP (ORDER BY s.name) AS name,
       coalesce(mode() WITHIN GROUP (ORDER BY s.type) FILTER (WHERE s.type <> 'Thing'), 'Thing') AS type,
       jsonb_agg(to_jsonb(s.aliases)) AS alias_lists, sum(cardinality(s.chunk_ids)) AS mentions,
       max(CASE WHEN e.normalised = %(exact)s THEN 3
                WHEN %(exact)s = ANY(s.alias_keys) THEN 2
                WHEN e.normalised LIKE %(prefix)s THEN 1 ELSE 0 END) AS match
FROM entities e JOIN entity_sources s ON s.entity_id = e.id JOIN versions v ON v.id = s.version_id
WHERE e.namespace = %(namespace)s AND {_VISIBLE}
  AND (%(id)s::uuid IS NULL OR e.id = %(id)s)
  AND (%(type)s::text IS NULL OR lower(s.type) = lower(%(type)s))
  AND (%(exact)s::text IS NULL OR e.normalised LIKE %(contains)s
       OR EXISTS (SELECT 1 FROM unnest(s.alias_keys) AS a(key) WHERE a.key LIKE %(contains)s))
GROUP BY e.id ORDER BY match DESC, mentions DESC, e.id LIMIT %(limit)s
"""

_FACTS: LiteralString = f"""
SELECT f.id, f.subject_id, f.predicate, f.object_id, f.object_text, s.sentence, s.valid_at, s.invalid_at, s.chunk_id,
       {_SOURCE},
       (SELECT n.name FROM entity_sources n WHERE n.entity_id = f.subject_id AND n.version_id = v.id) AS subject_name
FROM facts f JOIN fact_sources s ON s.fact_id = f.id JOIN versions v ON v.id = s.version_id
JOIN documents d ON d.id = v.document_id
WHERE (f.subject_id = ANY(%(entities)s) OR f.object_id = ANY(%(entities)s)) AND {_VISIBLE}
ORDER BY s.valid_at DESC NULLS LAST, f.id, v.ingestion_seq DESC LIMIT %(limit)s
"""

_ENTITY_SOURCES: LiteralString = f"""
SELECT DISTINCT ON (s.entity_id, v.ingestion_seq) s.entity_id, {_SOURCE}
FROM entity_sources s JOIN versions v ON v.id = s.version_id JOIN documents d ON d.id = v.document_id
WHERE s.entity_id = ANY(%(entities)s) AND {_VISIBLE}
ORDER BY s.entity_id, v.ingestion_seq DESC
"""

_LIST: LiteralString = f"""
SELECT {_SOURCE}, v.chunk_count, v.ingestion_seq,
       (SELECT left(c.text, 240) FROM chunks c WHERE c.version_id = v.id ORDER BY ordinal LIMIT 1) AS excerpt
FROM versions v JOIN documents d ON d.id = v.document_id
WHERE {_VISIBLE} AND v.ingestion_seq < %(before)s
  AND (%(source_types)s::text[] IS NULL OR v.source_type = ANY(%(source_types)s))
ORDER BY v.ingestion_seq DESC LIMIT %(limit)s
"""

_DOCUMENT: LiteralString = f"""
SELECT {_SOURCE}, v.namespace, v.warnings, v.page_count, length(t.text) AS length, t.pages, t.headings
FROM versions v JOIN documents d ON d.id = v.document_id JOIN version_texts t ON t.version_id = v.id
WHERE v.document_id = %(document)s AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL
  AND (CASE WHEN %(number)s::int IS NULL THEN v.revision_to IS NULL ELSE v.number = %(number)s END)
"""

_COUNTS: LiteralString = f"""
SELECT count(*) FILTER (WHERE {_VISIBLE}) AS documents, count(*) AS versions,
       coalesce(sum(v.chunk_count) FILTER (WHERE {_VISIBLE}), 0) AS chunks
FROM versions v WHERE v.namespace = %(namespace)s AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL
"""

_GRAPH_COUNTS: LiteralString = f"""
SELECT (SELECT count(DISTINCT s.entity_id) FROM entity_sources s JOIN versions v ON v.id = s.version_id WHERE {_VISIBLE})
         AS entities,
       (SELECT count(DISTINCT s.fact_id) FROM fact_sources s JOIN versions v ON v.id = s.version_id WHERE {_VISIBLE})
         AS facts
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A snapshot: a connection, a namespace, and the revision that is looked at.

    Attributes:
        past: the revision is not the namespace's newest, because the reader asked for an earlier time.
    """

    connection: Connection
    namespace: str
    revision: int
    past: bool

    async def _rows(self, query: LiteralString, **params: Any) -> list[dict[str, Any]]:
        bound = {"namespace": self.namespace, "revision": self.revision, **params}
        return await (await self.connection.execute(query, bound)).fetchall()

    async def hydrate(self, chunk_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
        """The visible ones of these chunks, with their sources."""
        rows = await self._rows(_HYDRATE, chunks=list(chunk_ids))
        return {row["chunk_id"]: row for row in rows}

    async def known_entities(self, names: Sequence[str]) -> list[UUID]:
        """Ids of visible entities that have one of these names."""
        wanted = [ids.entity_id(self.namespace, name) for name in names]
        return [row["id"] for row in await self._rows(_KNOWN_ENTITIES, ids=wanted)]

    async def chunks_naming(self, entities: Sequence[UUID], *, limit: int) -> list[tuple[UUID, int]]:
        """(chunk, number of these entities it names), the most first."""
        rows = await self._rows(_CHUNKS_NAMING, entities=list(entities), limit=limit)
        return [(row["chunk_id"], row["named"]) for row in rows]

    async def find_entities(
        self, *, query: str | None, entity_id: UUID | None, type_: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Entities by id, by name or alias (exact first), by type; the most mentioned first."""
        name = ids.normalise_name(query) if query else None
        if name == "":
            return []  # nothing but punctuation
        escaped = _escape_like(name) if name else ""
        return await self._rows(
            _FIND_ENTITIES,
            id=entity_id,
            type=ids.normalise_type(type_) if type_ else None,
            exact=name,
            prefix=f"{escaped}%",
            contains=f"%{escaped}%",
            limit=limit,
        )

    async def facts_of(self, entities: Sequence[UUID], *, limit: int) -> list[dict[str, Any]]:
        """Facts about these entities, one row a source, the latest first."""
        return await self._rows(_FACTS, entities=list(entities), limit=limit)

    async def sources_of(self, entities: Sequence[UUID]) -> list[dict[str, Any]]:
        """Documents that name these entities, newest first."""
        return await self._rows(_ENTITY_SOURCES, entities=list(entities))

    async def list_documents(
        self, *, source_types: Sequence[str], limit: int, before: int | None
    ) -> list[dict[str, Any]]:
        """Visible documents, newest first, those accepted before sequence number `before` if given."""
        return await self._rows(
            _LIST,
            source_types=list(source_types) or None,
            limit=limit,
            before=2**62 if before is None else before,
        )

    async def counts(self) -> dict[str, int]:
        """Numbers of documents, versions and chunks."""
        (row,) = await self._rows(_COUNTS)
        return {key: int(value) for key, value in row.items()}

    async def graph_counts(self) -> dict[str, int]:
        """Numbers of entities and facts; reads every mention, so for those who ask for it only."""
        (row,) = await self._rows(_GRAPH_COUNTS)
        return {key: int(value) for key, value in row.items()}

    async def document(self, document_id: UUID, number: int | None) -> dict[str, Any] | None:
        """One version of a document of this namespace (the current one by default), without its text."""
        rows = await self._rows(_DOCUMENT, document=document_id, number=number)
        return next((row for row in rows if row["namespace"] == self.namespace), None)

    async def text(self, version_id: UUID, start: int, length: int) -> str:
        """A part of a version's text, by character offsets from 0."""
        rows = await self._rows(
            "SELECT substr(text, %(start)s + 1, %(length)s) AS part FROM version_texts WHERE version_id = %(version)s",
            version=version_id,
            start=start,
            length=length,
        )
        return str(rows[0]["part"]) if rows else ""

    async def chunk(self, chunk_id: UUID) -> dict[str, Any] | None:
        """Place and document of a chunk of any version that stands in this namespace."""
        rows = await self._rows(
            "SELECT c.*, v.document_id, v.number FROM chunks c JOIN versions v ON v.id = c.version_id "
            "WHERE c.id = %(chunk)s AND v.namespace = %(namespace)s AND v.tombstoned_at IS NULL "
            "AND v.revision_from IS NOT NULL",
            chunk=chunk_id,
        )
        return rows[0] if rows else None

    async def versions(self, document_id: UUID) -> list[dict[str, Any]]:
        """Every version of a document, newest first."""
        return await self._rows(
            "SELECT v.number, i.accepted_at, v.revision_to IS NULL AS current, v.chunk_count FROM versions v "
            "JOIN ingestions i ON i.id = v.ingestion_id WHERE v.document_id = %(document)s "
            "AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL ORDER BY v.number DESC LIMIT 50",
            document=document_id,
        )


class Reader:
    """Opens snapshots of namespaces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def view(self, namespace: str, *, known_at: datetime | None = None) -> AsyncGenerator[View]:
        """A snapshot of a namespace, now or as it was known at a time; an unknown namespace is empty (revision 0).

        Raises:
            Unavailable: the database does not answer.
        """
        async with self._database.snapshot() as connection:
            row = await (
                await connection.execute(
                    "SELECT (SELECT revision FROM namespaces WHERE name = %(n)s) AS newest, "
                    "(SELECT max(revision) FROM revisions WHERE namespace = %(n)s "
                    "AND committed_at <= coalesce(%(t)s::timestamptz, 'infinity')) AS asked",
                    {"n": namespace, "t": known_at},
                )
            ).fetchone()
            newest, asked = (row["newest"] or 0, row["asked"] or 0) if row else (0, 0)
            revision = newest if known_at is None else asked
            yield View(connection=connection, namespace=namespace, revision=revision, past=revision < newest)

    async def namespaces(self) -> list[str]:
        """Every namespace, by name."""
        return [
            row["name"] for row in await self._database.fetch_all("SELECT name FROM namespaces ORDER BY name")
        ]

    async def ingestion_counts(self, namespace: str) -> dict[str, int]:
        """Number of ingestions of a namespace by state."""
        rows = await self._database.fetch_all(
            "SELECT state, count(*) AS n FROM ingestions WHERE namespace = %s GROUP BY state", (namespace,)
        )
        return {row["state"]: row["n"] for row in rows}


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
