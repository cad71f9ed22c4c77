"""Versions out of an archive: committed like new ones, past ones too, without a run of an ingestion behind them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.models import Layer, Retirement
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.graph_changes import note_changes
from apex_mcp.stores.record.graph_rows import GraphRows, insert_graph
from apex_mcp.stores.record.import_course import Course, lock, raise_revision
from apex_mcp.stores.record.import_plan import ArchivedVersion, Fate, Place, Plan, choose
from apex_mcp.stores.record.index_log import LOG, IndexUse, is_in_use
from apex_mcp.stores.record.linking import link_entities
from apex_mcp.stores.record.tombstones import ForgetKey, Kind, find, hold_off_forgetting
from apex_mcp.stores.record.versions import insert_versions, lacking

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
            chosen = await choose(connection, versions, course, plan.fates)
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
        chosen = await choose(connection, versions, course, result.fates)
        await _insert(connection, chosen)
        now, ours = await lock(connection, course)
        numbers = _numbers(chosen, now, ours=ours)
        last = max(now, *numbers.values(), until if ours else now)
        result.retired.extend(await _publish(connection, chosen, numbers, ours=ours))
        known: Sequence[tuple[int, datetime | None]] = (
            list(times) if ours else [(number, None) for number in numbers.values()]
        )
        await raise_revision(connection, course, last, ours=ours, times=known)
        new = [one.version.id for one, _ in chosen]
        if new and not ours:
            for layer in (Layer.TEXT, Layer.MODEL):
                await link_entities(connection, new, layer)
        changed = list(dict.fromkeys([*new, *(one.version_id for one in result.retired)]))
        await connection.execute(LOG, (changed,))
        await note_changes(connection, changed)
        result.stored.extend(new)
        return result


_Chosen = Sequence[tuple[ArchivedVersion, Place]]


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


def _ingestion(ord_: int, one: ArchivedVersion, place: Place) -> dict[str, Any]:
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
