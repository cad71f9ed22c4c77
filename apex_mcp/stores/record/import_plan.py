"""What becomes of an archive's versions: each is stored only if nothing that is here speaks against it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Connection
from apex_mcp.stores.record.graph_rows import GraphRows
from apex_mcp.stores.record.import_course import Course, removed_meanwhile
from apex_mcp.stores.record.tombstones import Kind, all_keys, find
from apex_mcp.stores.record.versions import NewVersion, purged
from apex_mcp.stores.record.visibility import CURRENT

_DOCUMENTS: LiteralString = """
INSERT INTO documents (id, namespace, key, created_at)
SELECT DISTINCT ON (id) * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::timestamptz[]) AS r(id, n, k, t) ORDER BY id
ON CONFLICT DO NOTHING
"""

_STANDING: LiteralString = f"""
SELECT d.id AS document_id, v.id AS version_id, v.content_hash, i.accepted_at,
       coalesce((SELECT max(number) FROM versions o WHERE o.document_id = d.id), 0) AS last_number
FROM documents d LEFT JOIN versions v ON v.document_id = d.id AND {CURRENT} LEFT JOIN ingestions i ON i.id = v.ingestion_id
WHERE d.id = ANY(%s)
"""

_LOCK_DOCUMENTS: LiteralString = "SELECT 1 FROM documents WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedVersion:
    """One version of an archive, under the ids that it gets here.

    Attributes:
        version: what is stored; `extraction` is empty, because `text_graph` and `model_graph` hold what it names.
        previous: id of the document's version before, as far as it is in the archive.
        newest: it is the document's last version in the archive; `newest_hash` is that one's.
        answers: rows of what a model answered about it.
        usage: what a model cost that is done with it; else None.
    """

    version: NewVersion
    key: str
    number: int
    document_created_at: datetime
    previous: UUID | None
    newest: bool
    newest_hash: str
    accepted_at: datetime
    committed_at: datetime
    revision: int
    enriched_from: int | None
    text_graph: GraphRows
    model_graph: GraphRows
    answers: Sequence[dict[str, Any]]
    usage: dict[str, float] | None


class Fate(StrEnum):
    """What becomes of a document of an archive."""

    IMPORTED = "imported"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is wanted of some versions, and what became of the documents whose last version was among them."""

    wanted: list[ArchivedVersion] = field(default_factory=list[ArchivedVersion])
    fates: dict[UUID, Fate] = field(default_factory=dict[UUID, Fate])


@dataclass(frozen=True, slots=True)
class Place:
    """How a document stands: its current version."""

    version_id: UUID | None
    content_hash: str | None
    accepted_at: datetime | None
    last_number: int
    before: UUID | None = None

    def fate_of(self, one: ArchivedVersion) -> Fate:
        if self.version_id is None or self.version_id == one.previous:
            return Fate.IMPORTED
        if self.content_hash == one.newest_hash:
            return Fate.UNCHANGED
        assert self.accepted_at is not None
        return Fate.KEPT if self.accepted_at >= one.accepted_at else Fate.IMPORTED

    def after(self, one: ArchivedVersion) -> "Place":
        return Place(
            one.version.id,
            one.version.content_hash,
            one.accepted_at,
            one.number if one.number > self.last_number else self.last_number + 1,
            self.version_id,
        )


async def choose(
    connection: Connection,
    versions: Sequence[ArchivedVersion],
    course: Course,
    fates: dict[UUID, Fate],
) -> list[tuple[ArchivedVersion, Place]]:
    """What is to be stored, and where it comes in its document."""
    documents = {one.version.document_id: one for one in versions}
    await connection.execute(
        _DOCUMENTS,
        (
            list(documents),
            [course.namespace] * len(documents),
            [one.key for one in documents.values()],
            [one.document_created_at for one in documents.values()],
        ),
    )
    await connection.execute(_LOCK_DOCUMENTS, (list(documents),))
    # From here on by statements of their own, which see what that one may have waited for.
    rows = await (await connection.execute(_STANDING, (list(documents),))).fetchall()
    places = {row.pop("document_id"): Place(**row) for row in rows}
    if len(places) < len(documents):
        # It was there to be inserted, and a purge removed it before it was locked.
        raise removed_meanwhile()
    ids = [one.version.id for one in versions]
    there = {
        row["id"]
        for row in await (
            await connection.execute("SELECT id FROM versions WHERE id = ANY(%s)", (ids,))
        ).fetchall()
    }
    gone = await purged(connection, ids)
    keys = await all_keys(connection)
    forgotten: set[str] = set()
    for namespace in {course.source, course.namespace}:
        forgotten |= await find(
            connection, keys, Kind.DOCUMENT, namespace, {one.key for one in documents.values()}
        )
    chosen: list[tuple[ArchivedVersion, Place]] = []
    for one in versions:
        place = places[one.version.document_id]
        if one.version.id in gone or one.key in forgotten:
            fate = Fate.FORGOTTEN
        elif one.version.id in there:
            fate = Fate.UNCHANGED
        else:
            fate = place.fate_of(one)
        if fate is Fate.IMPORTED:
            places[one.version.document_id] = after = place.after(one)
            chosen.append((one, after))
        if one.newest:
            fates[one.version.document_id] = fate
    return chosen
