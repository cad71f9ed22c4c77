"""Reads: each in one snapshot, showing what is visible in one namespace at one revision."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import Exclusive
from apex_mcp.stores.record import entities
from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.facts import Fact, facts_of
from apex_mcp.stores.record.index_log import USE_COLUMNS, IndexUse
from apex_mcp.stores.record.known import ids_by_name
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.visibility import PUBLISHED_SOURCE, SOURCE, VISIBLE, VISIBLE_SOURCE

_HYDRATE: LiteralString = f"""
SELECT c.id AS chunk_id, c.text, c.start_offset, c.end_offset, c.page_from, c.page_to, c.heading_path, {SOURCE},
       ARRAY(SELECT DISTINCT s.name FROM entity_sources s WHERE s.version_id = c.version_id AND c.id = ANY(s.chunk_ids)
             AND {PUBLISHED_SOURCE} ORDER BY s.name LIMIT 12) AS entities
FROM chunks c JOIN versions v ON v.id = c.version_id JOIN documents d ON d.id = v.document_id
WHERE c.id = ANY(%(chunks)s) AND {VISIBLE}
"""

_LIST: LiteralString = f"""
SELECT {SOURCE}, v.chunk_count, v.ingestion_seq,
       (SELECT left(c.text, 240) FROM chunks c WHERE c.version_id = v.id ORDER BY ordinal LIMIT 1) AS excerpt
FROM versions v JOIN documents d ON d.id = v.document_id
WHERE {VISIBLE} AND v.ingestion_seq < %(before)s
  AND (%(source_types)s::text[] IS NULL OR v.source_type = ANY(%(source_types)s))
ORDER BY v.ingestion_seq DESC LIMIT %(limit)s
"""

_DOCUMENT: LiteralString = f"""
SELECT {SOURCE}, v.namespace, v.warnings, v.page_count, length(t.text) AS length, t.pages, t.headings
FROM versions v JOIN documents d ON d.id = v.document_id JOIN version_texts t ON t.version_id = v.id
WHERE v.document_id = %(document)s AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL
  AND (CASE WHEN %(number)s::int IS NULL THEN v.revision_to IS NULL ELSE v.number = %(number)s END)
"""

_COUNTS: LiteralString = f"""
SELECT count(*) FILTER (WHERE {VISIBLE}) AS documents, count(*) AS versions,
       coalesce(sum(v.chunk_count) FILTER (WHERE {VISIBLE}), 0) AS chunks
FROM versions v WHERE v.namespace = %(namespace)s AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL
"""


_SENTENCES: LiteralString = f"""
SELECT DISTINCT ON (s.fact_id) s.fact_id, s.sentence FROM fact_sources s JOIN versions v ON v.id = s.version_id
WHERE s.fact_id = ANY(%(facts)s) AND {VISIBLE_SOURCE} ORDER BY s.fact_id, v.ingestion_seq DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class View(Snapshot):
    """A snapshot, and what can be read in it.

    Attributes:
        past: the revision is not the namespace's newest, because the reader asked for an earlier time.
        known_from: replaced versions of the time before were pruned; None where none was.
        index: the vector index that is in use.
        exclusive: predicates that have one object, or one subject, at a time.
    """

    past: bool
    known_from: datetime | None
    index: IndexUse
    exclusive: Exclusive

    def pruned(self, known_at: datetime | None) -> str | None:
        """What an answer about this time lacks, because it was pruned."""
        if known_at is None or self.known_from is None or known_at >= self.known_from:
            return None
        return (
            f"known_at: what was replaced by {self.known_from.astimezone(UTC):%Y-%m-%d %H:%M} UTC was pruned "
            "(APEX_KEEP_PAST_DAYS), so of what was known before some is missing"
        )

    async def hydrate(self, chunk_ids: Sequence[UUID]) -> dict[UUID, dict[str, Any]]:
        """The visible ones of these chunks, with their sources."""
        rows = await self.rows(_HYDRATE, chunks=list(chunk_ids))
        return {row["chunk_id"]: row for row in rows}

    async def known_entities(self, names: Sequence[str]) -> list[UUID]:
        """Ids of visible entities that have one of these names."""
        return await entities.known_ids(self, names)

    async def chunks_naming(self, entity_ids: Sequence[UUID], *, limit: int) -> list[tuple[UUID, int]]:
        """(passage, number of these entities it names), the most first; linked ones count as one."""
        return await entities.chunks_naming(self, entity_ids, limit=limit)

    async def find_entities(
        self, *, query: str | None, entity_id: UUID | None, type_: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Entities by id, by name or alias (exact first), by type; the most mentioned first. See `entities.described`."""
        return await entities.find_entities(self, query=query, entity_id=entity_id, type_=type_, limit=limit)

    async def entities_named(
        self, names: Sequence[str], *, type_: str | None, limit: int
    ) -> list[dict[str, Any]]:
        """Entities as they are shown that have one of these names, an alias or an organisation's core; in the names' order."""
        found = await ids_by_name(self, names)
        rows = await self.entities_of([one for name in names for one in sorted(found[name])])
        wanted = ids.normalise_type(type_).casefold() if type_ else None
        return [row for row in rows if wanted is None or row["type"].casefold() == wanted][:limit]

    async def entities_of(self, entity_ids: Sequence[UUID]) -> list[dict[str, Any]]:
        """These entities as they are shown, in this order; those that are not visible are left out."""
        groups = {one.id: one for one in (await self.components(entity_ids)).values()}
        rows = {row["id"]: row for row in await entities.described(self, groups)}
        return [rows[one] for one in dict.fromkeys(entity_ids) if one in rows]

    async def sentences(self, fact_ids: Sequence[UUID]) -> dict[UUID, str]:
        """What the newest visible source of each fact says."""
        rows = await self.rows(_SENTENCES, facts=list(fact_ids))
        return {row["fact_id"]: row["sentence"] for row in rows}

    async def facts_of(self, entity_ids: Sequence[UUID], *, limit: int) -> list[Fact]:
        """Facts about these entities and those linked with them, from `limit` sources at most."""
        return await facts_of(self, entity_ids, exclusive=self.exclusive, limit=limit)

    async def sources_of(
        self, entity_ids: Sequence[UUID], *, until: datetime | None = None
    ) -> list[dict[str, Any]]:
        """Documents that name these entities or those linked with them, newest first."""
        return await entities.sources_of(self, entity_ids, until=until)

    async def list_documents(
        self, *, source_types: Sequence[str], limit: int, before: int | None
    ) -> list[dict[str, Any]]:
        """Visible documents, newest first, those accepted before sequence number `before` if given."""
        return await self.rows(
            _LIST,
            source_types=list(source_types) or None,
            limit=limit,
            before=2**62 if before is None else before,
        )

    async def counts(self) -> dict[str, int]:
        """Numbers of documents, versions and chunks."""
        (row,) = await self.rows(_COUNTS)
        return {key: int(value) for key, value in row.items()}

    async def graph_counts(self) -> dict[str, int]:
        """Numbers of entities and facts; reads every mention, so for those who ask for it only."""
        return await entities.graph_counts(self)

    async def document(self, document_id: UUID, number: int | None) -> dict[str, Any] | None:
        """One version of a document of this namespace (the current one by default), without its text."""
        rows = await self.rows(_DOCUMENT, document=document_id, number=number)
        return next((row for row in rows if row["namespace"] == self.namespace), None)

    async def had(self, document_id: UUID, number: int) -> bool:
        """Whether a document of this namespace has later versions than this number, one of which was this."""
        rows = await self.rows(
            "SELECT 1 FROM versions v WHERE v.document_id = %(document)s AND v.namespace = %(namespace)s "
            "AND v.number > %(number)s AND %(number)s > 0 LIMIT 1",
            document=document_id,
            number=number,
        )
        return bool(rows)

    async def text(self, version_id: UUID, start: int, length: int) -> str:
        """A part of a version's text, by character offsets from 0."""
        rows = await self.rows(
            "SELECT substr(text, %(start)s + 1, %(length)s) AS part FROM version_texts WHERE version_id = %(version)s",
            version=version_id,
            start=start,
            length=length,
        )
        return str(rows[0]["part"]) if rows else ""

    async def chunk(self, chunk_id: UUID) -> dict[str, Any] | None:
        """Place and document of a chunk of any version that stands in this namespace."""
        rows = await self.rows(
            "SELECT c.*, v.document_id, v.number FROM chunks c JOIN versions v ON v.id = c.version_id "
            "WHERE c.id = %(chunk)s AND v.namespace = %(namespace)s AND v.tombstoned_at IS NULL "
            "AND v.revision_from IS NOT NULL",
            chunk=chunk_id,
        )
        return rows[0] if rows else None

    async def versions(self, document_id: UUID) -> list[dict[str, Any]]:
        """Every version of a document, newest first."""
        return await self.rows(
            "SELECT v.number, i.accepted_at, v.revision_to IS NULL AS current, v.chunk_count FROM versions v "
            "JOIN ingestions i ON i.id = v.ingestion_id WHERE v.document_id = %(document)s "
            "AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL ORDER BY v.number DESC LIMIT 50",
            document=document_id,
        )


class Reader:
    """Opens snapshots of namespaces."""

    def __init__(self, database: Database, exclusive: Exclusive) -> None:
        self._database = database
        self._exclusive = exclusive

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
                    "(SELECT known_from FROM namespaces WHERE name = %(n)s) AS known_from, "
                    "(SELECT max(revision) FROM revisions WHERE namespace = %(n)s "
                    "AND committed_at <= coalesce(%(t)s::timestamptz, 'infinity')) AS asked, "
                    f"{USE_COLUMNS} FROM identity",
                    {"n": namespace, "t": known_at},
                )
            ).fetchone()
            assert row is not None
            newest, asked = row["newest"] or 0, row["asked"] or 0
            revision = newest if known_at is None else asked
            yield View(
                connection=connection,
                namespace=namespace,
                revision=revision,
                past=revision < newest,
                known_from=row["known_from"],
                index=IndexUse.of(row),
                exclusive=self._exclusive,
            )

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
