"""Versions out of an archive: committed like new ones, past ones too, without a run of an ingestion behind them.

A namespace that held nothing gets the archive's revisions with their times, for as long as nobody else commits to it: then
whatever was known at a time before is known again. In any other, each revision of the archive becomes a new one, now.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.errors import Code, Unavailable
from apex_mcp.models import Layer, Retirement
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.graph_changes import note_changes
from apex_mcp.stores.record.graph_rows import GraphRows, insert_graph
from apex_mcp.stores.record.index_log import IndexUse, is_in_use
from apex_mcp.stores.record.linking import link_entities
from apex_mcp.stores.record.tombstones import ForgetKey, Kind, all_keys, find, hold_off_forgetting
from apex_mcp.stores.record.versions import LOG, NewVersion, insert_versions, lacking, purged
from apex_mcp.stores.record.visibility import CURRENT

# The lock of whoever imports an archive. Its points are in the index before the record knows of their versions.
IMPORTING: LiteralString = "apex-mcp import"

_BEGIN: LiteralString = """
WITH room AS MATERIALIZED (SELECT nextval(pg_get_serial_sequence('entities', 'seq')) AS first),
taken AS MATERIALIZED (
    SELECT first, setval(pg_get_serial_sequence('entities', 'seq'), first + %(arrivals)s::bigint + 1) FROM room)
INSERT INTO imports (archive, namespace, revision, arrivals)
SELECT %(archive)s, n.name, CASE WHEN n.revision = 0 THEN 0 END, t.first FROM namespaces n, taken t WHERE n.name = %(namespace)s
ON CONFLICT DO NOTHING
"""

_NAMESPACE: LiteralString = """
INSERT INTO namespaces (name, created_at) VALUES (%s, coalesce(%s, now())) ON CONFLICT DO NOTHING
"""

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

_INGESTIONS: LiteralString = """
INSERT INTO ingestions (id, namespace, document_id, request, fingerprint, lane, bulk, state, step, result, accepted_at,
    started_at, finished_at)
SELECT id, namespace, document_id, request, fingerprint, 'own', true, 'ready', 'cleanup_staging', result, accepted_at,
    clock_timestamp(), clock_timestamp()
FROM jsonb_to_recordset(%s::jsonb) AS r(ord int, id uuid, namespace text, document_id uuid, request jsonb, fingerprint text,
    result jsonb, accepted_at timestamptz) ORDER BY ord
RETURNING id, seq
"""

# Each under the number of its arrival, so that of entities that are one the same is shown.
_ENTITIES: LiteralString = """
INSERT INTO entities (id, namespace, normalised, core, seq) OVERRIDING SYSTEM VALUE
SELECT DISTINCT ON (id) id, namespace, normalised, core, arrival FROM jsonb_to_recordset(%s::jsonb)
    AS r(id uuid, namespace text, normalised text, core text, arrival bigint) ORDER BY id
ON CONFLICT DO NOTHING
"""

_ANSWERS: LiteralString = """
INSERT INTO model_answers (version_id, key, namespace, answer, created_at)
SELECT version_id, key, namespace, answer, created_at FROM jsonb_to_recordset(%s::jsonb)
    AS r(version_id uuid, key text, namespace text, answer jsonb, created_at timestamptz) ON CONFLICT DO NOTHING
"""

_ENRICHED: LiteralString = """
INSERT INTO enrichments (version_id, ingestion_id, namespace, state, usage, finished_at)
SELECT version_id, ingestion_id, namespace, 'done', usage, clock_timestamp() FROM jsonb_to_recordset(%s::jsonb)
    AS r(version_id uuid, ingestion_id uuid, namespace text, usage jsonb) ON CONFLICT DO NOTHING
"""

LOCK: LiteralString = """
SELECT n.revision, i.revision AS ours FROM namespaces n JOIN imports i ON i.namespace = n.name AND i.archive = %s
WHERE n.name = %s FOR NO KEY UPDATE OF n
"""

_RETIRE: LiteralString = """
UPDATE versions v SET revision_to = r.revision FROM unnest(%s::uuid[], %s::bigint[]) AS r(id, revision) WHERE v.id = r.id
RETURNING v.id, v.revision_from, v.revision_to
"""

_PUBLISH: LiteralString = """
UPDATE versions v SET imported = true, revision_from = r.revision_from, revision_to = r.revision_to,
    enriched_from = r.enriched_from, committed_at = coalesce(r.committed_at, clock_timestamp())
FROM jsonb_to_recordset(%s::jsonb) AS r(id uuid, revision_from bigint, revision_to bigint, enriched_from bigint,
    committed_at timestamptz)
WHERE v.id = r.id
"""

REVISIONS: LiteralString = """
INSERT INTO revisions (namespace, revision, committed_at)
SELECT %s, r, coalesce(t, clock_timestamp()) FROM unnest(%s::bigint[], %s::timestamptz[]) AS u(r, t) ON CONFLICT DO NOTHING
"""

RAISE: LiteralString = """
WITH raised AS (UPDATE namespaces SET revision = %(revision)s WHERE name = %(namespace)s)
UPDATE imports SET revision = CASE WHEN %(ours)s THEN %(revision)s END
WHERE archive = %(archive)s AND namespace = %(namespace)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Which archive goes where.

    Attributes:
        archive: its digest.
        source: the namespace in it.
        namespace: the one that it goes into.
    """

    archive: str
    source: str
    namespace: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What became of some versions.

    Attributes:
        stored: ids of those that were stored.
        fates: of the documents whose last version was among them, by document.
        index_replaced: nothing was committed, because the index that was written to is not the one in use.
    """

    stored: list[UUID] = field(default_factory=list[UUID])
    fates: dict[UUID, Fate] = field(default_factory=dict[UUID, Fate])
    retired: list[Retirement] = field(default_factory=list[Retirement])
    index_replaced: bool = False


class ImportStore:
    """The record's side of an import."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, course: Course, *, arrivals: int, created_at: datetime | None) -> int:
        """Begin an import, or carry it on; the number behind which its entities are counted."""
        async with self._database.transaction(answer_seconds=LONG_SECONDS) as connection:
            await connection.execute(_NAMESPACE, (course.namespace, created_at))
            await connection.execute(
                _BEGIN,
                {"archive": course.archive, "namespace": course.namespace, "arrivals": arrivals},
            )
            row = await (
                await connection.execute(
                    "SELECT arrivals FROM imports WHERE archive = %s AND namespace = %s",
                    (course.archive, course.namespace),
                )
            ).fetchone()
        assert row is not None
        return row["arrivals"]

    async def plan(self, versions: Sequence[ArchivedVersion], course: Course) -> Plan:
        """What would be stored of some versions, of one namespace, in the order in which they became current.

        Raises:
            Unavailable: the database does not answer, or a document is being removed; the same call may be made again.
        """
        plan = Plan()
        async with (
            self._database.connection(answer_seconds=LONG_SECONDS) as connection,
            connection.transaction(force_rollback=True),
        ):
            chosen = await self._choose(connection, versions, course, plan.fates)
            plan.wanted.extend(one for one, _ in chosen)
        return plan

    async def commit(
        self,
        versions: Sequence[ArchivedVersion],
        course: Course,
        *,
        until: int,
        times: Sequence[tuple[int, datetime]],
        index: IndexUse | None = None,
    ) -> ImportResult:
        """Store versions in one transaction, in this order, each only if nothing speaks against it.

        Args:
            versions: of one namespace, in the order in which they became current.
            course: which archive goes where.
            until: the archive's revision that is reached with these.
            times: of the archive's revisions up to that one.
            index: the vector index that the versions were written to before; None where they are in none yet.

        Raises:
            Unavailable: the database does not answer, or what it goes into is being removed; the same call may be made again.
        """
        return await self._database.transact(
            lambda connection: self._commit(
                connection, versions, course, until=until, times=times, index=index
            )
        )

    async def _commit(
        self,
        connection: Connection,
        versions: Sequence[ArchivedVersion],
        course: Course,
        *,
        until: int,
        times: Sequence[tuple[int, datetime]],
        index: IndexUse | None,
    ) -> ImportResult:
        keys = await hold_off_forgetting(connection)
        if index is not None and not await is_in_use(connection, index):
            return ImportResult(index_replaced=True)
        result = ImportResult()
        if keys:
            versions = await _without_forgotten(connection, keys, course, versions)
        chosen = await self._choose(connection, versions, course, result.fates)
        await _insert(connection, chosen)
        row = await (await connection.execute(LOCK, (course.archive, course.namespace))).fetchone()
        if row is None:
            raise removed_meanwhile()
        now, ours = row["revision"], row["ours"] == row["revision"]
        numbers = _numbers(chosen, now, ours=ours)
        last = max([now, *numbers.values(), *([until] if ours else [])])
        result.retired.extend(await _publish(connection, chosen, numbers, ours=ours))
        known = list(times) if ours else [(number, None) for number in numbers.values()]
        await connection.execute(
            REVISIONS, (course.namespace, [n for n, _ in known], [time for _, time in known])
        )
        bound = {"archive": course.archive, "namespace": course.namespace, "ours": ours}
        await connection.execute(RAISE, {**bound, "revision": last})
        new = [one.version.id for one, _ in chosen]
        if new and not ours:
            for layer in (Layer.TEXT, Layer.MODEL):
                await link_entities(connection, new, layer)
        changed = list(dict.fromkeys([*new, *(one.version_id for one in result.retired)]))
        await connection.execute(LOG, (changed,))
        await note_changes(connection, changed)
        result.stored.extend(new)
        return result

    async def _choose(
        self,
        connection: Connection,
        versions: Sequence[ArchivedVersion],
        course: Course,
        fates: dict[UUID, Fate],
    ) -> "list[tuple[ArchivedVersion, _Place]]":
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
        places = {row.pop("document_id"): _Place(**row) for row in rows}
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
        chosen: list[tuple[ArchivedVersion, _Place]] = []
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


@dataclass(frozen=True, slots=True)
class _Place:
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

    def after(self, one: ArchivedVersion) -> "_Place":
        return _Place(
            one.version.id,
            one.version.content_hash,
            one.accepted_at,
            one.number if one.number > self.last_number else self.last_number + 1,
            self.version_id,
        )


_Chosen = Sequence[tuple[ArchivedVersion, _Place]]


def removed_meanwhile() -> Unavailable:
    """The error where the namespace, or a document, was forgotten while an archive came into it."""
    return Unavailable(
        "what the archive goes into was removed meanwhile",
        code=Code.RECORD_UNAVAILABLE,
        unchanged="nothing more was stored",
        next_step="run the import again",
        retry_after_seconds=1,
    )


async def _without_forgotten(
    connection: Connection,
    keys: Sequence[ForgetKey],
    course: Course,
    versions: Sequence[ArchivedVersion],
) -> list[ArchivedVersion]:
    """The same, without what names a forgotten entity; a model's answers about such a version may tell of it, so they go."""
    names = {name for one in versions for rows in (one.text_graph, one.model_graph) for name in rows.names()}
    gone: set[str] = set()
    for namespace in {course.source, course.namespace}:
        gone |= await find(connection, keys, Kind.ENTITY, namespace, names)
    return [
        replace(
            one,
            version=replace(one.version, content_hash=lacking(one.version.content_hash)),
            text_graph=one.text_graph.without(gone),
            model_graph=one.model_graph.without(gone),
            answers=(),
        )
        if gone & {*one.text_graph.names(), *one.model_graph.names()}
        else one
        for one in versions
    ]


async def _insert(connection: Connection, chosen: _Chosen) -> None:
    """Everything but what makes it visible."""
    if not chosen:
        return
    rows = [_ingestion(number, one, place) for number, (one, place) in enumerate(chosen)]
    found = await (await connection.execute(_INGESTIONS, (json.dumps(rows, default=str),))).fetchall()
    seqs: dict[UUID, int] = {row["id"]: row["seq"] for row in found}
    texts, models = GraphRows(), GraphRows()
    for one, _ in chosen:
        for rows_of, all_rows in ((one.text_graph, texts), (one.model_graph, models)):
            all_rows.entities.extend(rows_of.entities)
            all_rows.facts.extend(rows_of.facts)
    named = [*texts.entities, *models.entities]
    if named:
        await connection.execute(_ENTITIES, (json.dumps(named),))
    await insert_versions(
        connection,
        [(one.version, seqs[one.version.ingestion_id], place.last_number) for one, place in chosen],
        texts,
    )
    await insert_graph(connection, models, Layer.MODEL)
    answers = [answer for one, _ in chosen for answer in one.answers]
    if answers:
        await connection.execute(_ANSWERS, (json.dumps(answers, default=str),))
    done = [
        {
            "version_id": one.version.id,
            "ingestion_id": one.version.ingestion_id,
            "namespace": one.version.namespace,
            "usage": one.usage,
        }
        for one, _ in chosen
        if one.usage is not None
    ]
    if done:
        await connection.execute(_ENRICHED, (json.dumps(done, default=str),))


def _ingestion(ord_: int, one: ArchivedVersion, place: _Place) -> dict[str, Any]:
    """Stands for the version's way here. It has no file and no text: neither can be tried again."""
    version = one.version
    request: dict[str, Any] = {
        "source_type": version.source_type,
        "title": version.title,
        "uri": version.uri,
        "path": None,
        "media_type": version.parsed.media_type,
        "document_time": version.document_time.isoformat() if version.document_time else None,
        "metadata": {},
        "entities": [],
        "facts": [],
        "size_bytes": 0,
        "imported": True,
    }
    return {
        "ord": ord_,
        "id": version.ingestion_id,
        "namespace": version.namespace,
        "document_id": version.document_id,
        "request": request,
        "fingerprint": version.content_hash,
        "accepted_at": one.accepted_at,
        "result": {
            "title": version.title,
            "version": place.last_number,
            "chunks": len(version.chunks),
            "pages": len(version.parsed.pages) or None,
            "entities": len(one.text_graph.entities),
            "facts": len(one.text_graph.facts),
            "warnings": list(version.parsed.warnings),
        },
    }


def _numbers(chosen: _Chosen, revision: int, *, ours: bool) -> dict[int, int]:
    """The revision here of each of the archive's."""
    theirs = sorted({one.revision for one, _ in chosen})
    return {one: one if ours else revision + 1 + place for place, one in enumerate(theirs)}


async def _publish(
    connection: Connection, chosen: _Chosen, numbers: dict[int, int], *, ours: bool
) -> list[Retirement]:
    """Make them current from their revisions on, and past what each takes the place of."""
    if not chosen:
        return []
    new = {one.version.id for one, _ in chosen}
    ends = {place.before: numbers[one.revision] for one, place in chosen if place.before is not None}
    past = {id_: revision for id_, revision in ends.items() if id_ not in new}
    retired: list[Retirement] = []
    if past:
        rows = await connection.execute(_RETIRE, (list(past), list(past.values())))
        retired = [
            Retirement(
                version_id=row["id"], revision_from=row["revision_from"], revision_to=row["revision_to"]
            )
            for row in await rows.fetchall()
        ]
    published: list[dict[str, Any]] = []
    for one, _ in chosen:
        begins, ended = numbers[one.revision], ends.get(one.version.id)
        enriched = one.enriched_from if ours else begins
        published.append({
            "id": one.version.id,
            "revision_from": begins,
            "revision_to": ended,
            "enriched_from": enriched if one.enriched_from is not None else None,
            "committed_at": one.committed_at if ours else None,
        })
        if ended is not None:
            retired.append(Retirement(version_id=one.version.id, revision_from=begins, revision_to=ended))
    await connection.execute(_PUBLISH, (json.dumps(published, default=str),))
    return retired
