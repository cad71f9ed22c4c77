"""Forgetting: one transaction makes it invisible at every revision, and its removal due; the purge then removes it everywhere."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database
from apex_mcp.stores.record.forgetting_entities import EntityProspect, forget_entity, look_at_entity
from apex_mcp.stores.record.forgetting_prospects import Prospect, look_at_documents
from apex_mcp.stores.record.graph_changes import FORGETTING_WAITS, note_changes, note_forgetting
from apex_mcp.stores.record.index_log import LOG
from apex_mcp.stores.record.purging import delete_empty_namespaces
from apex_mcp.stores.record.tombstones import Kind, put
from apex_mcp.stores.record.versions import RAISE_REVISIONS

_RESTARTS = 20

# What hangs on nothing is a document that is forgotten already, or was never stored.
_SOMETHING: LiteralString = """
(EXISTS (SELECT 1 FROM ingestions i WHERE i.document_id = d.id)
 OR EXISTS (SELECT 1 FROM versions v WHERE v.document_id = d.id AND v.tombstoned_at IS NULL AND v.revision_from IS NOT NULL))
"""

_NAMED: LiteralString = f"""
SELECT d.id, d.key FROM documents d WHERE d.namespace = %(namespace)s
  AND (d.id = ANY(%(ids)s) OR d.key = ANY(%(keys)s)) AND {_SOMETHING} ORDER BY d.id
"""

_WHOLE: LiteralString = f"""
SELECT d.id, d.key FROM documents d WHERE d.namespace = %(namespace)s AND {_SOMETHING} ORDER BY d.id
"""

# By when a version was accepted: what came again unchanged, too late or in vain made none. What never made any goes, too.
_IN_TIME: LiteralString = """
SELECT d.id, d.key FROM documents d WHERE d.namespace = %(namespace)s AND (
    EXISTS (SELECT 1 FROM ingestions i WHERE i.document_id = d.id
            AND (i.state IN ('pending', 'running', 'ready') OR NOT EXISTS (
                SELECT 1 FROM versions v WHERE v.document_id = d.id AND v.tombstoned_at IS NULL
                AND v.revision_from IS NOT NULL))
            AND (%(after)s::timestamptz IS NULL OR i.accepted_at >= %(after)s)
            AND (%(before)s::timestamptz IS NULL OR i.accepted_at < %(before)s))
    OR EXISTS (SELECT 1 FROM versions v WHERE v.document_id = d.id AND v.tombstoned_at IS NULL
               AND v.revision_from IS NOT NULL AND NOT EXISTS (SELECT 1 FROM ingestions i WHERE i.id = v.ingestion_id)
               AND (%(after)s::timestamptz IS NULL OR v.committed_at >= %(after)s)
               AND (%(before)s::timestamptz IS NULL OR v.committed_at < %(before)s)))
ORDER BY d.id
"""

_LOCK_INGESTIONS: LiteralString = """
SELECT id, document_id, claim, state FROM ingestions WHERE document_id = ANY(%s) ORDER BY id FOR UPDATE
"""

# Alone, so that what is being accepted for one of them is over, or waits.
_LOCK_DOCUMENTS: LiteralString = "SELECT id, key FROM documents WHERE id = ANY(%s) ORDER BY id FOR UPDATE"

_CAME_MEANWHILE: LiteralString = (
    "SELECT 1 FROM ingestions WHERE document_id = ANY(%s) AND id <> ALL(%s) LIMIT 1"
)

_HIDE: LiteralString = """
UPDATE versions SET tombstoned_at = clock_timestamp()
WHERE document_id = ANY(%s) AND revision_from IS NOT NULL AND tombstoned_at IS NULL RETURNING id, ingestion_id, document_id
"""

_DUE: LiteralString = """
INSERT INTO purges (version_id, ingestion_id, document_id, forgets, forgetting_id)
SELECT v, i, d, true, %s FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[]) AS r(v, i, d)
ON CONFLICT (version_id) DO UPDATE SET ingestion_id = excluded.ingestion_id, document_id = excluded.document_id,
    forgets = true, forgetting_id = excluded.forgetting_id, passes = 0, next_pass_at = clock_timestamp()
"""

_TAKE_BACK: LiteralString = "DELETE FROM ingestions WHERE document_id = ANY(%s)"

_COLUMNS: LiteralString = (
    "id, kind, forgotten_at, documents, versions, entities, facts, removed_at, erased_at"
)
_FORGETTING: LiteralString = f"SELECT {_COLUMNS}, {FORGETTING_WAITS} AS graph_waits FROM forgettings f"

_NOTE: LiteralString = f"""
INSERT INTO forgettings (kind, documents, versions, entities, facts, request_id, removed_at)
VALUES (%(kind)s, %(documents)s, %(versions)s, %(entities)s, %(facts)s, %(request)s,
        CASE WHEN %(removed)s THEN clock_timestamp() END)
RETURNING {_COLUMNS}
"""

_ARCHIVES: LiteralString = """
SELECT kind, name, made_at, documents FROM archives
WHERE (namespace IS NULL OR namespace = %s) AND (%s::timestamptz IS NULL OR made_at >= %s) ORDER BY made_at DESC LIMIT 50
"""

_FIRST = UUID(int=0)

_TEXTS_IN: LiteralString = """
SELECT id, text FROM chunks WHERE version_id = ANY(%s) AND id > %s ORDER BY id LIMIT 500
"""

_NAMES_IN: LiteralString = """
SELECT id, name AS text FROM (
    SELECT s.entity_id AS id, min(s.name) AS name FROM entity_sources s WHERE s.version_id = ANY(%s) GROUP BY 1) AS named
WHERE id > %s ORDER BY id LIMIT 500
"""

_UNFINISHED = frozenset({"pending", "running"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which documents of a namespace: those named by id or key, those of a time, or all.

    Attributes:
        after, before: half-open range of when one of its versions was accepted.
        whole: the namespace with all that is in it.
    """

    namespace: str
    document_ids: Sequence[UUID] = ()
    keys: Sequence[str] = ()
    after: datetime | None = None
    before: datetime | None = None
    whole: bool = False

    @property
    def kind(self) -> str:
        if self.whole:
            return "namespace"
        return "documents" if self.document_ids or self.keys else "time_range"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """An archive or a backup that was made: it may hold what is forgotten after."""

    kind: str
    name: str
    made_at: datetime
    documents: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What was asked to be forgotten, in numbers, and how far that is.

    Attributes:
        removed_at: when the rows and the vector index were rid of it.
        erased_at: when the files were.
        graph_waits: a graph on a server has yet to be told of it.
        ingestion_ids: those that were taken back; only of the call that did it.
    """

    id: UUID
    kind: str
    forgotten_at: datetime
    documents: int
    versions: int
    entities: int
    facts: int
    removed_at: datetime | None
    erased_at: datetime | None
    graph_waits: bool
    ingestion_ids: Sequence[UUID] = ()

    @property
    def removed(self) -> bool:
        """Whether nothing holds it any more but files."""
        return self.removed_at is not None and not self.graph_waits


class _CameMeanwhile(Exception):
    """Something was accepted for one of the documents while they were being locked; rolls back, to begin anew."""


class ForgetStore:
    """Forgets, and says what would go."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- documents ---------------------------------------------------------------------------------------------------

    async def look(self, selection: Selection) -> Prospect | None:
        """What would go; None where nothing is selected."""
        async with self._database.snapshot(answer_seconds=LONG_SECONDS) as connection:
            documents = await _selected(connection, selection)
            if not documents and not (selection.whole and await _stands(connection, selection.namespace)):
                return None
            return await look_at_documents(connection, documents)

    async def forget(
        self, selection: Selection, *, request_id: str | None = None, graph_in_use: bool = False
    ) -> Forgetting | None:
        """Forget the documents, with every version and every ingestion of them; None where nothing is selected.

        From the end of the one transaction on nothing of them is visible, at whatever revision, nothing of them can be
        committed any more, and their purges are due. See `note_forgetting` for `graph_in_use`.

        Raises:
            Unavailable: the database does not answer; sent again with the same `request_id` it is the same forgetting.
        """
        for _ in range(_RESTARTS):
            if (known := await self.by_request(request_id)) is not None:
                return known
            try:
                done = await self._database.transact(
                    lambda connection: _forget(connection, selection, request_id, graph_in_use=graph_in_use)
                )
            except _CameMeanwhile:
                continue
            return done or await self.by_request(request_id)
        raise Unavailable(
            "new versions of what is to be forgotten keep coming in",
            code=Code.RECORD_UNAVAILABLE,
            unchanged="nothing was forgotten",
            next_step="end what sends them, then try again",
            retry_after_seconds=1,
        )

    # --- entities ----------------------------------------------------------------------------------------------------

    async def look_at_entity(self, namespace: str, entity_id: UUID) -> EntityProspect | None:
        """What would go with an entity and all that is shown as it; None where the namespace has none of this id."""
        async with self._database.snapshot(answer_seconds=LONG_SECONDS) as connection:
            return await look_at_entity(connection, namespace, entity_id)

    async def forget_entity(
        self,
        namespace: str,
        entity_id: UUID,
        *,
        request_id: str | None = None,
        graph_in_use: bool = False,
    ) -> Forgetting | None:
        """Forget an entity and all that is shown as it, in every version; the documents that mention it stay.

        It is gone from the record when this returns, and is not extracted again until the caller gives it. See
        `note_forgetting` for `graph_in_use`.

        Raises:
            Unavailable: the database does not answer; sent again with the same `request_id` it is the same forgetting.
        """
        if (known := await self.by_request(request_id)) is not None:
            return known

        async def forget(connection: Connection) -> Forgetting | None:
            gone = await forget_entity(connection, namespace, entity_id)
            if gone is None:
                return None
            return await _note(
                connection,
                kind="entity",
                request=request_id,
                entities=len(gone.members),
                facts=gone.facts,
                removed=True,
                graph_in_use=graph_in_use,
            )

        return await self._database.transact(forget) or await self.by_request(request_id)

    # --- how far it is -----------------------------------------------------------------------------------------------

    async def get(self, forgetting_id: UUID) -> Forgetting | None:
        """One forgetting, as it stands now."""
        row = await self._database.fetch_one(f"{_FORGETTING} WHERE f.id = %s", (forgetting_id,))
        return Forgetting(**row) if row else None

    async def by_request(self, request_id: str | None) -> Forgetting | None:
        """The forgetting that this very call was before."""
        if request_id is None:
            return None
        row = await self._database.fetch_one(f"{_FORGETTING} WHERE f.request_id = %s", (request_id,))
        return Forgetting(**row) if row else None

    async def archives(self, namespace: str, *, since: datetime | None) -> list[Archive]:
        """Archives and backups made since a time that may hold what is in the namespace, the newest first."""
        rows = await self._database.fetch_all(_ARCHIVES, (namespace, since, since))
        return [Archive(**row) for row in rows]

    # --- what is known of the forgotten until its rows go ------------------------------------------------------------

    async def embedded_texts(self, version_ids: Sequence[UUID]) -> AsyncGenerator[list[str]]:
        """The texts of versions of which an embedder may have been asked: passages, and names; in pages."""
        for query in (_NAMES_IN, _TEXTS_IN):
            after = _FIRST
            while rows := await self._database.fetch_all(query, (list(version_ids), after)):
                yield [row["text"] for row in rows]
                after = rows[-1]["id"]

    async def namespaces_of(self, document_ids: Sequence[UUID]) -> list[str]:
        """Where these documents are."""
        rows = await self._database.fetch_all(
            "SELECT DISTINCT namespace FROM documents WHERE id = ANY(%s)", (list(document_ids),)
        )
        return [row["namespace"] for row in rows]


async def _selected(connection: Connection, selection: Selection) -> list[UUID]:
    bound: dict[str, Any] = {"namespace": selection.namespace}
    if selection.whole:
        query = _WHOLE
    elif selection.document_ids or selection.keys:
        query = _NAMED
        bound |= {"ids": list(selection.document_ids), "keys": list(selection.keys)}
    else:
        query = _IN_TIME
        bound |= {"after": selection.after, "before": selection.before}
    return [row["id"] for row in await (await connection.execute(query, bound)).fetchall()]


async def _stands(connection: Connection, namespace: str) -> bool:
    row = await connection.execute("SELECT 1 FROM namespaces WHERE name = %s", (namespace,))
    return await row.fetchone() is not None


async def _forget(
    connection: Connection, selection: Selection, request_id: str | None, *, graph_in_use: bool
) -> Forgetting | None:
    """Locks in the order of a commit: ingestions, documents, namespace, versions."""
    namespace = selection.namespace
    chosen = await _selected(connection, selection)
    ingestions = await (await connection.execute(_LOCK_INGESTIONS, (chosen,))).fetchall()
    locked = await (await connection.execute(_LOCK_DOCUMENTS, (chosen,))).fetchall()
    came = await connection.execute(_CAME_MEANWHILE, (chosen, [row["id"] for row in ingestions]))
    if await came.fetchone() is not None:
        raise _CameMeanwhile
    # Another call may have forgotten some of them before the locks were ours.
    still = set(await _selected(connection, selection))
    keys = {row["id"]: row["key"] for row in locked if row["id"] in still}
    if not keys and not (selection.whole and await _stands(connection, namespace)):
        return None
    documents = list(keys)
    prospect = await look_at_documents(connection, documents)
    await connection.execute(RAISE_REVISIONS, ([namespace],))
    versions = await (await connection.execute(_HIDE, (documents,))).fetchall()
    await note_changes(connection, [row["id"] for row in versions])
    forgetting = await _note(
        connection,
        kind=selection.kind,
        request=request_id,
        documents=len(documents),
        versions=len(versions),
        entities=prospect.entities.going,
        facts=prospect.facts.going,
        removed=not documents,
        graph_in_use=graph_in_use,
    )
    removals = _removals(versions, ingestions)
    columns = [[one[place] for one in removals] for place in range(3)]
    await connection.execute(_DUE, (forgetting.id, *columns))
    await connection.execute(LOG, (columns[0],))
    await connection.execute(_TAKE_BACK, (documents,))
    await put(connection, Kind.DOCUMENT, namespace, keys.values())
    if selection.whole:
        await connection.execute("DELETE FROM entity_splits WHERE namespace = %s", (namespace,))
        if not documents:
            await delete_empty_namespaces(connection, [namespace])
    unfinished = [row["id"] for row in ingestions if row["state"] in _UNFINISHED]
    return replace(forgetting, ingestion_ids=unfinished)


async def _note(
    connection: Connection,
    *,
    kind: str,
    request: str | None,
    documents: int = 0,
    versions: int = 0,
    entities: int,
    facts: int,
    removed: bool,
    graph_in_use: bool,
) -> Forgetting:
    """What was forgotten, once all that a graph must hear of it was noted."""
    bound = {
        "kind": kind,
        "request": request,
        "documents": documents,
        "versions": versions,
        "entities": entities,
        "facts": facts,
        "removed": removed,
    }
    row = await (await connection.execute(_NOTE, bound)).fetchone()
    assert row is not None
    waits = await note_forgetting(connection, row["id"], graph_in_use=graph_in_use)
    return Forgetting(**row, graph_waits=waits)


def _removals(
    versions: Sequence[dict[str, Any]], ingestions: Sequence[dict[str, Any]]
) -> list[tuple[UUID, UUID, UUID]]:
    """Version, ingestion and document of each removal.

    An ingestion without a version may have written hidden points under its claim; one without a claim has at most staged
    something, and is removed under an id that no version has.
    """
    made = {row["ingestion_id"]: (row["id"], row["ingestion_id"], row["document_id"]) for row in versions}
    for row in ingestions:
        if row["id"] not in made:
            claim = row["claim"] or row["id"]
            version_id = ids.version_id(row["document_id"], row["id"], claim)
            made[row["id"]] = (version_id, row["id"], row["document_id"])
    return list(made.values())
