"""Requests, as the record keeps them: accepted once, ended exactly once."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import faults
from apex_mcp.errors import ApexError, Code, Conflict, Invariant, NotFound
from apex_mcp.models import IngestionRequest, IngestionState, Lane, Step
from apex_mcp.stores.record.database import Connection, Database
from apex_mcp.stores.record.gathering import Gathered
from apex_mcp.stores.record.requests import request_row
from apex_mcp.stores.record.tombstones import KEYS_IF_ANY, as_keys, lift
from apex_mcp.stores.record.visibility import CURRENT

# The same key, request or content among unfinished ingestions inserts nothing: the first one answers for all.
_ACCEPT: LiteralString = """
WITH given AS (
    SELECT * FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
        ord int, id uuid, namespace text, document_id uuid, key text, request jsonb, content text, fingerprint text,
        idempotency_key text, request_id text, lane text, bulk boolean)
),
named AS (INSERT INTO namespaces (name) SELECT DISTINCT namespace FROM given ON CONFLICT DO NOTHING),
documented AS (
    INSERT INTO documents (id, namespace, key) SELECT DISTINCT ON (document_id) document_id, namespace, key FROM given
    ON CONFLICT DO NOTHING
),
accepted AS (
    INSERT INTO ingestions (id, namespace, document_id, request, content, fingerprint, idempotency_key, request_id, lane, bulk)
    SELECT id, namespace, document_id, request, content, fingerprint, idempotency_key, request_id, lane, bulk
    FROM given ORDER BY ord
    ON CONFLICT DO NOTHING
    RETURNING id, seq, namespace, document_id, lane, bulk
)
INSERT INTO outbox (ingestion_id, seq, namespace, document_id, lane, bulk)
SELECT id, seq, namespace, document_id, lane, bulk FROM accepted
RETURNING ingestion_id
"""

_SAME: LiteralString = """
SELECT r.ord, i.id, i.fingerprint <> r.fingerprint AND i.request_id IS DISTINCT FROM r.request_id AS other
FROM jsonb_to_recordset(%(rows)s::jsonb) AS r(
    ord int, namespace text, document_id uuid, fingerprint text, idempotency_key text, request_id text)
CROSS JOIN LATERAL (
    SELECT id, fingerprint, request_id FROM ingestions i
    WHERE i.request_id = r.request_id
       OR (i.namespace = r.namespace AND i.idempotency_key = r.idempotency_key)
       OR (i.document_id = r.document_id AND i.fingerprint = r.fingerprint AND i.state IN ('pending', 'running'))
    ORDER BY seq DESC LIMIT 1
) AS i
"""

_COLUMNS: LiteralString = """
    i.id, i.seq, i.namespace, i.document_id, d.key, i.request, i.lane, i.bulk, i.state, i.step, i.claim, i.workflow_id,
    i.attempts, i.cancel_requested_at, i.failure, i.result, i.accepted_at, i.started_at, i.finished_at,
    m.state AS enrichment, m.failure AS enrichment_failure, m.usage AS enrichment_usage,
    (SELECT read_by_model FROM identity) AS read_by_model
"""

_FROM: LiteralString = """
FROM ingestions i JOIN documents d ON d.id = i.document_id LEFT JOIN enrichments m ON m.ingestion_id = i.id
"""

_GET: LiteralString = f"SELECT {_COLUMNS} {_FROM} WHERE i.id = ANY(%s)"

_OWNED: LiteralString = f"{_GET} AND i.claim = %s AND i.state = 'running'"

_LIST: LiteralString = f"""
SELECT {_COLUMNS} {_FROM} WHERE i.namespace = %(namespace)s AND i.seq < %(before)s
  AND (%(state)s::text IS NULL OR i.state = %(state)s)
ORDER BY i.seq DESC LIMIT %(limit)s
"""

# Of one whose content stands already the result says what stands.
_FINISH: LiteralString = f"""
WITH ended AS (
    UPDATE ingestions SET state = %(state)s, failure = %(failure)s::jsonb, finished_at = clock_timestamp(), claim = NULL,
        result = coalesce(
            (SELECT jsonb_build_object('title', v.title, 'version', v.number, 'chunks', v.chunk_count) FROM versions v
             WHERE %(state)s = 'unchanged' AND v.document_id = ingestions.document_id AND {CURRENT}), result)
    WHERE id = %(id)s AND state IN ('pending', 'running') AND (%(claim)s::uuid IS NULL OR claim = %(claim)s)
    RETURNING id
)
DELETE FROM outbox WHERE ingestion_id IN (SELECT id FROM ended) RETURNING ingestion_id
"""

_RETRY: LiteralString = """
WITH again AS (
    UPDATE ingestions i SET state = 'pending', step = 'accepted', claim = NULL, failure = NULL, finished_at = NULL,
        cancel_requested_at = NULL, lane = 'own'
    WHERE i.id = %(id)s AND i.state IN ('rolled_back', 'cancelled')
      AND (i.content IS NOT NULL OR i.request ->> 'path' IS NOT NULL)
      AND NOT EXISTS (SELECT 1 FROM ingestions l WHERE l.document_id = i.document_id AND l.seq > i.seq
                      AND l.state NOT IN ('rolled_back', 'cancelled'))
    RETURNING i.id, i.seq, i.namespace, i.document_id, i.lane, i.bulk
)
INSERT INTO outbox (ingestion_id, seq, namespace, document_id, lane, bulk) SELECT * FROM again RETURNING ingestion_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """One row of `ingestions`, with its document's key, and how a model's work on it stands."""

    id: UUID
    seq: int
    namespace: str
    document_id: UUID
    key: str
    request: dict[str, Any]
    lane: Lane
    bulk: bool
    state: IngestionState
    step: Step
    claim: UUID | None
    workflow_id: str | None
    attempts: int
    cancel_requested_at: datetime | None
    failure: dict[str, Any] | None
    result: dict[str, Any]
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    enrichment: str | None
    enrichment_failure: dict[str, Any] | None
    enrichment_usage: dict[str, float] | None
    read_by_model: bool


class IngestionStore:
    """The life of ingestions in the record."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._looks = Gathered(self._by_id)

    async def accept(
        self, requests: Sequence[IngestionRequest], request_ids: Sequence[str | None] | None = None
    ) -> list[UUID]:
        """Make requests durable, in order, in one transaction; the same request twice gives the same id.

        Args:
            requests: what was asked.
            request_ids: for each, the id that its sender gave this very call, so that sending it again changes nothing.

        Raises:
            Conflict: an idempotency key came with other content before.
            Unavailable: the database does not answer; nothing was accepted.
        """
        senders: list[str | None] = list(request_ids or ()) or [None] * len(requests)
        rows = [
            request_row(ord_, request, sender)
            for ord_, (request, sender) in enumerate(zip(requests, senders, strict=True))
        ]
        payload = json.dumps(rows)
        with faults.around("record.accept"):
            async with self._database.transaction() as connection:
                async with connection.pipeline():
                    inserted = await connection.execute(_ACCEPT, {"rows": payload})
                    # A statement of its own, which sees what the one before it may have waited for.
                    forgetting = await connection.execute(KEYS_IF_ANY)
                    accepted = {row["ingestion_id"] for row in await inserted.fetchall()}
                    keys = as_keys(await forgetting.fetchall())
                if accepted and keys:
                    await lift(connection, keys, requests)
        found = [UUID(row["id"]) for row in rows]
        missing = [row for row in rows if UUID(row["id"]) not in accepted]
        if missing:
            known = await self._database.fetch_all(_SAME, {"rows": json.dumps(missing)})
            if any(row["other"] for row in known):
                raise Conflict(
                    "the idempotency key was used with other content",
                    code=Code.IDEMPOTENCY_KEY_REUSED,
                    unchanged="nothing was accepted",
                    next_step="send the same content again, or choose a new key",
                )
            same: dict[int, UUID] = {row["ord"]: row["id"] for row in known}
            for row in missing:
                place: int = row["ord"]
                if place not in same:  # the one it equalled ended in between: this one is new
                    (same[place],) = await self.accept([requests[place]], [senders[place]])
                found[place] = same[place]
        return found

    async def get(self, ingestion_ids: Sequence[UUID]) -> list[Ingestion]:
        """The ingestions with these ids, in the given order; unknown ids are left out."""
        found = await self._by_id(ingestion_ids)
        return [found[id_] for id_ in ingestion_ids if id_ in found]

    async def _by_id(self, ingestion_ids: Sequence[UUID]) -> dict[UUID, Ingestion]:
        rows = await self._database.fetch_all(_GET, (list(ingestion_ids),))
        return {row["id"]: _ingestion(row) for row in rows}

    async def get_one(self, ingestion_id: UUID) -> Ingestion:
        """One ingestion.

        Raises:
            NotFound: no ingestion has this id.
        """
        # A commit wakes everybody who waits for a member of its group, and each looks for himself.
        found = await self._looks.get(ingestion_id)
        if found is None:
            raise unknown_ingestion(ingestion_id)
        return found

    async def recent(
        self, namespace: str, *, state: IngestionState | None, limit: int, before: int | None
    ) -> list[Ingestion]:
        """The newest ingestions of a namespace, those before sequence number `before` if given."""
        rows = await self._database.fetch_all(
            _LIST, {"namespace": namespace, "state": state, "limit": limit, "before": before or 2**62}
        )
        return [_ingestion(row) for row in rows]

    async def contents(self, ingestion_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Inline texts of ingestions that have one."""
        rows = await self._database.fetch_all(
            "SELECT id, content FROM ingestions WHERE id = ANY(%s) AND content IS NOT NULL",
            (list(ingestion_ids),),
        )
        return {row["id"]: row["content"] for row in rows}

    async def owned(self, ingestion_ids: Sequence[UUID], claim: UUID) -> list[Ingestion]:
        """Those of the given ingestions that still belong to `claim` and are not over; cancelled ones carry the mark."""
        rows = await self._database.fetch_all(_OWNED, (list(ingestion_ids), claim))
        by_id = {row["id"]: row for row in rows}
        return [_ingestion(by_id[id_]) for id_ in ingestion_ids if id_ in by_id]

    async def still_owned(self, ingestion_ids: Sequence[UUID], claim: UUID) -> dict[UUID, bool]:
        """As `owned`, of ingestions that are known already: whether each carries the mark of a cancellation."""
        rows = await self._database.fetch_all(
            "SELECT id, cancel_requested_at IS NOT NULL AS cancelled FROM ingestions "
            "WHERE id = ANY(%s) AND claim = %s AND state = 'running'",
            (list(ingestion_ids), claim),
        )
        return {row["id"]: row["cancelled"] for row in rows}

    async def set_step(self, ingestion_ids: Sequence[UUID], claim: UUID, step: Step) -> None:
        """Note the step that runs now."""
        await self._database.fetch_all(
            "UPDATE ingestions SET step = %s WHERE id = ANY(%s) AND claim = %s AND state = 'running' RETURNING 1",
            (step, list(ingestion_ids), claim),
        )

    async def note_failure(self, ingestion_ids: Sequence[UUID], claim: UUID, error: ApexError) -> None:
        """Note why ingestions are held up or about to end."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE ingestions SET failure = %s::jsonb WHERE id = ANY(%s) AND claim = %s AND state = 'running'",
                (json.dumps(error.to_dict()), list(ingestion_ids), claim),
            )

    async def finish(
        self,
        ingestion_id: UUID,
        state: IngestionState,
        *,
        claim: UUID | None = None,
        error: ApexError | None = None,
    ) -> bool:
        """End an unfinished ingestion and its outbox entry; False if it had ended or belongs to another claim."""
        failure = json.dumps(error.to_dict()) if error else None
        row = await self._database.fetch_one(
            _FINISH, {"id": ingestion_id, "state": state, "failure": failure, "claim": claim}
        )
        return row is not None

    async def request_cancel(self, ingestion_id: UUID) -> Ingestion:
        """Mark an ingestion as cancelled; one that nobody has claimed ends here.

        Raises:
            NotFound: no ingestion has this id.
            Conflict: it is over (`already_finished`).
        """

        async def cancel(connection: Connection) -> dict[str, Any] | None:
            row = await (
                await connection.execute(
                    "UPDATE ingestions SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()) "
                    "WHERE id = %s AND state IN ('pending', 'running') RETURNING state",
                    (ingestion_id,),
                )
            ).fetchone()
            if row is not None and row["state"] == IngestionState.PENDING:
                await connection.execute(
                    "UPDATE ingestions SET state = 'cancelled', finished_at = clock_timestamp() WHERE id = %s",
                    (ingestion_id,),
                )
                await connection.execute("DELETE FROM outbox WHERE ingestion_id = %s", (ingestion_id,))
            return row

        # Whoever claims it takes the entry in the outbox first.
        row = await self._database.transact(cancel)
        found = await self.get_one(ingestion_id)
        if row is None and found.state is not IngestionState.CANCELLED:
            raise Conflict(
                f"the ingestion is over: {found.state}",
                code=Code.ALREADY_FINISHED,
                next_step="nothing is left to cancel",
            )
        return found

    async def retry(self, ingestion_id: UUID) -> Ingestion:
        """Put a failed or cancelled ingestion back into the outbox.

        Raises:
            NotFound: no ingestion has this id.
            Conflict: it did not fail, is being cancelled, or a later one of the same document stands (`not_retryable`).
        """
        try:
            row = await self._database.fetch_one(_RETRY, {"id": ingestion_id})
        except Invariant as error:
            if error.details.get("constraint") != "ingestions_same":
                raise
            row = None
        found = await self.get_one(ingestion_id)
        if row is None and found.cancel_requested_at is not None and not found.state.finished:
            raise Conflict(
                "the ingestion is being cancelled",
                code=Code.NOT_RETRYABLE,
                next_step="try again when get_ingestion says that it is cancelled",
            )
        if row is None and found.state.finished:
            raise Conflict(
                f"the ingestion ended as {found.state}; its text is gone, or a later one of the document took its place",
                code=Code.NOT_RETRYABLE,
                next_step="ingest the document again",
            )
        return found

    async def drop_contents(self, age_seconds: float) -> None:
        """Forget the inline texts of ingestions that failed or were cancelled this long ago."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE ingestions SET content = NULL WHERE content IS NOT NULL AND state IN ('rolled_back', 'cancelled') "
                "AND finished_at < now() - make_interval(secs => %s)",
                (age_seconds,),
            )

    async def unfinished(self) -> int:
        """Number of ingestions that are not over."""
        row = await self._database.fetch_one(
            "SELECT count(*) AS n FROM ingestions WHERE state IN ('pending', 'running')"
        )
        return int(row["n"]) if row else 0


async def lock_claimed(
    connection: Connection, ingestion_ids: Sequence[UUID], claim: UUID
) -> list[dict[str, Any]]:
    """Lock, inside a transaction, the ingestions that still belong to `claim`; cancelled ones are returned with the mark."""
    return await (
        await connection.execute(
            "SELECT id, seq, document_id, namespace, cancel_requested_at FROM ingestions "
            "WHERE id = ANY(%s) AND claim = %s AND state = 'running' ORDER BY id FOR UPDATE",
            (list(ingestion_ids), claim),
        )
    ).fetchall()


def _ingestion(row: dict[str, Any]) -> Ingestion:
    typed: dict[str, Any] = {
        **row,
        "lane": Lane(row["lane"]),
        "state": IngestionState(row["state"]),
        "step": Step(row["step"]),
    }
    return Ingestion(**typed)


def unknown_ingestion(ingestion_id: UUID) -> NotFound:
    """What is said of an id that no ingestion has, and of one that an ingestion of another namespace has."""
    return NotFound(
        f"no ingestion has the id {ingestion_id}",
        next_step="give the `namespace` that it was stored in; get_ingestion without an id lists the recent ones, without "
        "those of what was forgotten",
    )
