"""The commit point: one transaction makes new versions current and the ones before them past."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.models import (
    Chunk,
    Extraction,
    IngestionState,
    Layer,
    ParsedDocument,
    Retirement,
    SourceType,
)
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.graph_changes import note_changes
from apex_mcp.stores.record.graph_rows import GraphRows, insert_graph
from apex_mcp.stores.record.index_log import LOG, IndexUse, is_in_use
from apex_mcp.stores.record.ingestions import lock_claimed
from apex_mcp.stores.record.linking import VALUES, link_entities
from apex_mcp.stores.record.passage_vectors import keep_passage_vectors
from apex_mcp.stores.record.tombstones import hold_off_forgetting, without_forgotten
from apex_mcp.stores.record.visibility import CURRENT

_STANDING: LiteralString = f"""
SELECT d.id AS document_id, v.id AS version_id, v.content_hash, v.ingestion_seq, v.revision_from,
       coalesce((SELECT max(number) FROM versions o WHERE o.document_id = d.id), 0) AS last_number,
       coalesce((SELECT max(ingestion_seq) FROM versions o WHERE o.document_id = d.id AND NOT o.imported), 0) AS last_seq
FROM documents d LEFT JOIN versions v ON v.document_id = d.id AND {CURRENT}
WHERE d.id = ANY(%s)
"""

_LOCK_DOCUMENTS: LiteralString = "SELECT 1 FROM documents WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"

_INSERT_VERSIONS: LiteralString = """
INSERT INTO versions (id, document_id, namespace, ingestion_id, ingestion_seq, number, content_hash, title, uri,
    source_type, media_type, document_time, metadata, warnings, chunk_count, page_count, embedded_with)
SELECT id, document_id, namespace, ingestion_id, ingestion_seq, number, content_hash, title, uri,
    source_type, media_type, document_time, metadata, warnings, chunk_count, page_count, embedded_with
FROM jsonb_to_recordset(%s::jsonb) AS r(
    id uuid, document_id uuid, namespace text, ingestion_id uuid, ingestion_seq bigint, number int, content_hash text,
    title text, uri text, source_type text, media_type text, document_time timestamptz, metadata jsonb, warnings jsonb,
    chunk_count int, page_count int, embedded_with text)
"""

_INSERT_TEXTS: LiteralString = """
INSERT INTO version_texts (version_id, text, pages, headings)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::jsonb[], %s::jsonb[])
"""

_INSERT_CHUNKS: LiteralString = """
INSERT INTO chunks (id, version_id, ordinal, text, start_offset, end_offset, page_from, page_to, heading_path, tokens)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::int[], %s::text[], %s::int[], %s::int[], %s::int[], %s::int[],
                     %s::jsonb[], %s::int[])
"""

RAISE_REVISIONS: LiteralString = """
WITH locked AS (SELECT name FROM namespaces WHERE name = ANY(%s) ORDER BY name FOR NO KEY UPDATE),
raised AS (UPDATE namespaces n SET revision = revision + 1 FROM locked WHERE n.name = locked.name
           RETURNING n.name, n.revision)
INSERT INTO revisions (namespace, revision) SELECT name, revision FROM raised RETURNING namespace, revision
"""

_RETIRE: LiteralString = """
UPDATE versions v SET revision_to = r.revision FROM revisions r
WHERE v.id = ANY(%(past)s) AND r.namespace = v.namespace
  AND r.revision = (SELECT revision FROM namespaces WHERE name = v.namespace)
RETURNING v.id, v.revision_from, v.revision_to
"""

_PUBLISH: LiteralString = """
UPDATE versions v SET revision_from = n.revision, committed_at = clock_timestamp()
FROM namespaces n WHERE v.id = ANY(%(new)s) AND n.name = v.namespace
"""

_END: LiteralString = """
WITH ended AS (
    UPDATE ingestions i SET state = r.state, step = 'cleanup_staging', result = r.result, finished_at = clock_timestamp(),
        claim = NULL, failure = NULL, content = CASE WHEN r.state = 'cancelled' THEN i.content END
    FROM jsonb_to_recordset(%s::jsonb) AS r(id uuid, state text, result jsonb) WHERE i.id = r.id
    RETURNING i.id
)
DELETE FROM outbox WHERE ingestion_id IN (SELECT id FROM ended)
"""

_OWE_REMOVAL: LiteralString = """
INSERT INTO purges (version_id, ingestion_id) SELECT * FROM unnest(%s::uuid[], %s::uuid[]) ON CONFLICT DO NOTHING
"""

# Before the hash of a version that lacks what was forgotten of it.
LESS_THAN: LiteralString = "less than "


# What a model is to read, where one reads this memory.
_WANT: LiteralString = """
INSERT INTO enrichments (version_id, ingestion_id, namespace) SELECT id, ingestion_id, namespace FROM versions
WHERE id = ANY(%s) AND (SELECT read_by_model FROM identity) ON CONFLICT DO NOTHING
"""


_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """Everything that one ingestion wants to make current.

    Attributes:
        content_hash: of the content and of what the caller gave with it; equal hashes are the same version.
        vectors: one packed float32 vector a chunk, by the embedder named `embedder`; or None.
    """

    id: UUID
    ingestion_id: UUID
    document_id: UUID
    namespace: str
    content_hash: str
    title: str
    uri: str
    source_type: SourceType
    document_time: datetime | None
    metadata: dict[str, Any]
    parsed: ParsedDocument
    chunks: Sequence[Chunk]
    extraction: Extraction
    embedder: str | None = None
    vectors: Sequence[bytes] | None = None

    def chunk_id(self, ordinal: int) -> UUID:
        return ids.chunk_id(self.id, ordinal)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """How each ingestion came out; ingestions that belong to another claim by now, or were purged, are in `lost`.

    Attributes:
        index_replaced: nothing was committed, because the index that was written to is not the one in use.
    """

    states: dict[UUID, IngestionState] = field(default_factory=dict[UUID, IngestionState])
    retired: list[Retirement] = field(default_factory=list[Retirement])
    lost: list[UUID] = field(default_factory=list[UUID])
    index_replaced: bool = False


class VersionStore:
    """Commits versions, and says what is current."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def commit(
        self,
        versions: Sequence[NewVersion],
        claim: UUID,
        *,
        index: IndexUse | None = None,
    ) -> CommitResult:
        """Make versions current, all in one transaction, each only if nothing speaks against it.

        A version whose ingestion was cancelled, overtaken by one accepted later, or whose content equals the current
        version's, ends its ingestion so and writes nothing; the removal of what an index holds of it is owed from then on.
        `index` is the vector index that the versions were written to before; None where they are in none yet.

        Raises:
            Unavailable: the database does not answer; nothing was committed, the same call may be made again.
        """
        result = CommitResult()
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            if keys := await hold_off_forgetting(connection):
                versions = [
                    replace(
                        one,
                        extraction=await without_forgotten(connection, keys, one.namespace, one.extraction),
                    )
                    for one in versions
                ]
            by_ingestion = {version.ingestion_id: version for version in versions}
            if index is not None and not await is_in_use(connection, index):
                return CommitResult(index_replaced=True)
            owned = await lock_claimed(connection, list(by_ingestion), claim)
            gone = await purged(connection, [version.id for version in versions])
            owned = [row for row in owned if by_ingestion[row["id"]].id not in gone]
            result.lost.extend(set(by_ingestion) - {row["id"] for row in owned})
            documents = [row["document_id"] for row in owned]
            async with connection.pipeline():
                await connection.execute(_LOCK_DOCUMENTS, (documents,))
                # A statement of its own, which sees what the one before it may have waited for.
                found = await connection.execute(_STANDING, (documents,))
                standing = {row["document_id"]: row for row in await found.fetchall()}
            winners: list[tuple[NewVersion, dict[str, Any], int]] = []
            ends: list[dict[str, Any]] = []
            for row in owned:
                version, current = by_ingestion[row["id"]], standing[row["document_id"]]
                state = _verdict(row, version, current)
                result.states[version.ingestion_id] = state
                if state is IngestionState.READY:
                    winners.append((version, current, row["seq"]))
                ends.append(_end(version, state, current))
            if winners:
                new = [version for version, _, _ in winners]
                graph = GraphRows()
                for version in new:
                    graph.add(version.namespace, version.id, version.extraction)
                await insert_versions(
                    connection,
                    [(version, seq, now["last_number"] + 1) for version, now, seq in winners],
                    graph,
                )
                await connection.execute(_WANT, ([version.id for version in new],))
                past = [current["version_id"] for _, current, _ in winners if current["version_id"]]
                result.retired.extend(await _flip(connection, new, past))
                naming = {UUID(row["version_id"]) for row in graph.entities if row["type"] not in VALUES}
                if naming:
                    await link_entities(connection, sorted(naming), Layer.TEXT)
            async with connection.pipeline():
                if winners:
                    changed = [version.id for version, _, _ in winners]
                    await note_changes(connection, [*changed, *(one.version_id for one in result.retired)])
                if ends:
                    await connection.execute(_END, (json.dumps(ends, default=str),))
                if left := [one for one, state in result.states.items() if state is not IngestionState.READY]:
                    versions_left = [by_ingestion[one].id for one in left]
                    await connection.execute(_OWE_REMOVAL, (versions_left, left))
                    await connection.execute(LOG, (versions_left,))
        return result

    async def current_hashes(self, document_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Content hashes of the current versions of these documents."""
        rows = await self._database.fetch_all(
            f"SELECT v.document_id, v.content_hash FROM versions v WHERE v.document_id = ANY(%s) AND {CURRENT}",
            (list(document_ids),),
        )
        return {row["document_id"]: row["content_hash"] for row in rows}


def content_hash(raw_hash: str, given: Any) -> str:
    """Hash of a version: its content's hash and what the caller gave with it (title, facts, metadata, ...)."""
    body = json.dumps(given, sort_keys=True, default=str, ensure_ascii=True)
    return hashlib.sha256(f"{raw_hash}\x1f{body}".encode()).hexdigest()


def lacking(content_hash: str) -> str:
    """Hash of a version that holds no longer all that it was made of: given once more, that is not the same."""
    return content_hash if content_hash.startswith(LESS_THAN) else LESS_THAN + content_hash


async def purged(connection: Connection, version_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these versions that were removed, and so cannot be committed any more."""
    rows = await (
        await connection.execute(
            "SELECT version_id FROM purges WHERE version_id = ANY(%s)", (list(version_ids),)
        )
    ).fetchall()
    return {row["version_id"] for row in rows}


def _verdict(row: dict[str, Any], version: NewVersion, current: dict[str, Any]) -> IngestionState:
    if row["cancel_requested_at"] is not None:
        return IngestionState.CANCELLED
    if current["last_seq"] > row["seq"]:
        return IngestionState.SUPERSEDED
    if current["content_hash"] == version.content_hash:
        return IngestionState.UNCHANGED
    return IngestionState.READY


def _end(version: NewVersion, state: IngestionState, current: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {"title": version.title}
    if state is IngestionState.READY:
        result |= {
            "version": current["last_number"] + 1,
            "chunks": len(version.chunks),
            "pages": len(version.parsed.pages) or None,
            "entities": len(version.extraction.entities),
            "facts": len(version.extraction.facts),
            "warnings": version.parsed.warnings,
        }
    elif state is IngestionState.UNCHANGED:
        result |= {"version": current["last_number"], "chunks": len(version.chunks)}
    return {"id": version.ingestion_id, "state": state, "result": result}


async def insert_versions(
    connection: Connection, versions: Sequence[tuple[NewVersion, int, int]], graph: GraphRows
) -> None:
    """Within a commit: insert versions, each with its ingestion's sequence number and its own, and what the texts name."""
    rows = [_version_row(version, seq, number) for version, seq, number in versions]
    new = [version for version, _, _ in versions]
    async with connection.pipeline():
        await connection.execute(_INSERT_VERSIONS, (json.dumps(rows, default=str),))
        await connection.execute(
            _INSERT_TEXTS,
            (
                [version.id for version in new],
                [version.parsed.text for version in new],
                [json.dumps([[p.number, p.start, p.end] for p in version.parsed.pages]) for version in new],
                [
                    json.dumps([[h.level, h.title, h.start, h.end] for h in version.parsed.headings])
                    for version in new
                ],
            ),
        )
        pieces = [(version, chunk) for version in new for chunk in version.chunks]
        for some in batches(pieces, _ROWS_AT_ONCE):
            await connection.execute(_INSERT_CHUNKS, _chunk_columns(some))
            await asyncio.sleep(0)  # adapting rows is the driver's work in this thread: others get their turn
        for embedder in {
            version.embedder for version in new if version.embedder and version.vectors is not None
        }:
            pairs = [
                (version.chunk_id(chunk.ordinal), vector)
                for version in new
                if version.embedder == embedder and version.vectors is not None
                for chunk, vector in zip(version.chunks, version.vectors, strict=True)
            ]
            await keep_passage_vectors(
                connection, embedder, [one for one, _ in pairs], [vector for _, vector in pairs]
            )
        await insert_graph(connection, graph, Layer.TEXT)


def _version_row(version: NewVersion, seq: int, number: int) -> dict[str, Any]:
    return {
        "id": version.id,
        "document_id": version.document_id,
        "namespace": version.namespace,
        "ingestion_id": version.ingestion_id,
        "ingestion_seq": seq,
        "number": number,
        "content_hash": version.content_hash,
        "title": version.title,
        "uri": version.uri,
        "source_type": version.source_type,
        "media_type": version.parsed.media_type,
        "document_time": version.document_time,
        "metadata": version.metadata,
        "warnings": version.parsed.warnings,
        "chunk_count": len(version.chunks),
        "page_count": len(version.parsed.pages) or None,
        "embedded_with": version.embedder if version.vectors is not None else None,
    }


def _chunk_columns(pairs: Sequence[tuple[NewVersion, Chunk]]) -> tuple[list[Any], ...]:
    return (
        [version.chunk_id(chunk.ordinal) for version, chunk in pairs],
        [version.id for version, _ in pairs],
        [chunk.ordinal for _, chunk in pairs],
        [chunk.text for _, chunk in pairs],
        [chunk.place.start for _, chunk in pairs],
        [chunk.place.end for _, chunk in pairs],
        [chunk.place.page_from for _, chunk in pairs],
        [chunk.place.page_to for _, chunk in pairs],
        [json.dumps(chunk.place.heading_path) for _, chunk in pairs],
        [chunk.tokens for _, chunk in pairs],
    )


async def _flip(connection: Connection, new: Sequence[NewVersion], past: Sequence[UUID]) -> list[Retirement]:
    """The last and shortest part: the namespaces' rows are locked from here to the end of the transaction."""
    await connection.execute(RAISE_REVISIONS, (sorted({version.namespace for version in new}),))
    retired: list[Retirement] = []
    if past:
        rows = await (await connection.execute(_RETIRE, {"past": list(past)})).fetchall()
        retired = [
            Retirement(
                version_id=row["id"], revision_from=row["revision_from"], revision_to=row["revision_to"]
            )
            for row in rows
        ]
    async with connection.pipeline():
        await connection.execute(_PUBLISH, {"new": [version.id for version in new]})
        await connection.execute(LOG, ([version.id for version in new] + list(past),))
    return retired
