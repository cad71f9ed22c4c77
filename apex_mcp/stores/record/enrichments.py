"""What is owed to versions by a model: claimed by one dispatcher at a time, published by the second commit, or failed."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import faults
from apex_mcp.errors import ApexError, Invariant
from apex_mcp.models import Exclusive
from apex_mcp.stores.record import known, publishing
from apex_mcp.stores.record.database import LONG_SECONDS, Database
from apex_mcp.stores.record.forgetting_entities import answer_without_forgotten
from apex_mcp.stores.record.known import KnownEntity, KnownFact
from apex_mcp.stores.record.publishing import RESOLVING, End, Enriched, Link, Overtaken
from apex_mcp.stores.record.session_lock import session_lock
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.tombstones import hold_off_forgetting
from apex_mcp.stores.record.visibility import CURRENT, DIFFERENT

__all__ = [
    "DIFFERENT",
    "End",
    "Enriched",
    "Enrichment",
    "EnrichmentStore",
    "EnrichmentText",
    "KnownEntity",
    "KnownFact",
    "Link",
    "Overtaken",
    "TextPassage",
]

# As many as an ingestion may begin without coming to an end.
_MAX_LOSSES = 8
_GIVEN_UP = Invariant(
    f"the model's reading of it was begun {_MAX_LOSSES} times and never came to an end",
    unchanged="its text stays searchable, and what was answered is kept",
    next_step="call retry_ingestion to try again; if it stays, report it with what `apex-mcp logs` shows",
)

# Fair over namespaces, the oldest first. What was overtaken meanwhile ends here.
_CLAIM: LiteralString = f"""
WITH waiting AS (
    SELECT w.version_id, w.seq, row_number() OVER (PARTITION BY n.name ORDER BY w.seq) AS turn FROM namespaces n
    CROSS JOIN LATERAL (
        SELECT e.version_id, e.seq FROM enrichments e
        WHERE e.namespace = n.name AND e.state = 'pending' AND (e.not_before IS NULL OR e.not_before <= clock_timestamp())
        ORDER BY e.seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS w
)
UPDATE enrichments e SET state = CASE WHEN {CURRENT} THEN 'running' ELSE 'superseded' END,
    claim = gen_random_uuid(), attempts = e.attempts + 1,
    lease_owner = CASE WHEN {CURRENT} THEN %(owner)s END,
    lease_until = CASE WHEN {CURRENT} THEN clock_timestamp() + make_interval(secs => %(lease_seconds)s) END,
    finished_at = CASE WHEN {CURRENT} THEN NULL ELSE clock_timestamp() END
FROM versions v, (SELECT version_id, turn, seq FROM waiting ORDER BY turn, seq LIMIT %(limit)s) AS mine
WHERE e.version_id = mine.version_id AND v.id = e.version_id
RETURNING e.version_id, e.ingestion_id, v.document_id, e.namespace, e.claim, e.attempts, e.state, e.seq
"""

_OWNED: LiteralString = f"""
SELECT e.version_id, e.ingestion_id, v.document_id, e.namespace, e.claim, e.attempts, {CURRENT} AS current
FROM enrichments e JOIN versions v ON v.id = e.version_id
WHERE e.version_id = %s AND e.claim = %s AND e.state = 'running'
"""

_SUPERSEDE: LiteralString = """
UPDATE enrichments SET state = 'superseded', lease_owner = NULL, lease_until = NULL, finished_at = clock_timestamp()
WHERE version_id = %s AND claim = %s AND state = 'running'
"""

_EXPIRED: LiteralString = """
SELECT e.version_id, e.ingestion_id, v.document_id, e.namespace, e.claim, e.attempts
FROM enrichments e JOIN versions v ON v.id = e.version_id
WHERE e.state = 'running' AND e.lease_owner <> %s AND (%s OR e.lease_until < clock_timestamp()) ORDER BY e.seq
"""

_TEXT: LiteralString = """
SELECT v.title, coalesce(v.document_time, i.accepted_at) AS reference_time, v.document_time IS NOT NULL AS dated
FROM versions v JOIN ingestions i ON i.id = v.ingestion_id WHERE v.id = %s
"""

_WAIT: LiteralString = """
UPDATE enrichments SET state = 'pending', claim = NULL, lease_owner = NULL, lease_until = NULL, failure = %s::jsonb,
    not_before = clock_timestamp() + make_interval(secs => %s)
WHERE version_id = %s AND claim = %s AND state = 'running'
"""

_FAIL: LiteralString = """
UPDATE enrichments SET state = 'failed', lease_owner = NULL, lease_until = NULL, failure = %s::jsonb,
    finished_at = clock_timestamp()
WHERE version_id = %s AND claim = %s AND state = 'running'
"""

# Whoever has it claimed by now: what was sent costs.
_SPEND: LiteralString = """
UPDATE enrichments SET usage = usage || jsonb_build_object(
    'requests', coalesce((usage->>'requests')::int, 0) + %(requests)s::int,
    'tokens_in', coalesce((usage->>'tokens_in')::bigint, 0) + %(tokens_in)s::bigint,
    'tokens_out', coalesce((usage->>'tokens_out')::bigint, 0) + %(tokens_out)s::bigint,
    'seconds', round(coalesce((usage->>'seconds')::numeric, 0) + %(seconds)s::numeric, 3))
WHERE version_id = %(version)s
"""

_RELEASE: LiteralString = """
UPDATE enrichments SET claim = NULL, lease_owner = NULL, lease_until = NULL, losses = losses + %(lost)s::int,
    state = CASE WHEN losses + %(lost)s::int < %(most)s THEN 'pending' ELSE 'failed' END,
    failure = CASE WHEN losses + %(lost)s::int < %(most)s THEN failure ELSE %(failure)s::jsonb END,
    finished_at = CASE WHEN losses + %(lost)s::int < %(most)s THEN NULL ELSE clock_timestamp() END
WHERE version_id = ANY(%(versions)s) AND state = 'running' AND (%(claim)s::uuid IS NULL OR claim = %(claim)s)
"""

# Besides what failed, what a provider put off for long, for it may be back sooner than it said, and what lacks answers.
_MAY_BE_TRIED: LiteralString = """
(e.state = 'failed' OR e.state = 'pending' AND e.not_before > clock_timestamp()
 OR e.state = 'done' AND coalesce((e.usage->>'groups_without_answer')::int, 0)
                         + coalesce((e.usage->>'questions_without_answer')::int, 0) > 0)
"""

_TRY: LiteralString = """
UPDATE enrichments e SET state = 'pending', claim = NULL, failure = NULL, not_before = NULL, finished_at = NULL, attempts = 0,
    losses = 0
"""

_RETRY: LiteralString = f"""
{_TRY}
FROM versions v WHERE e.ingestion_id = %s AND {_MAY_BE_TRIED} AND v.id = e.version_id AND {CURRENT}
RETURNING e.version_id
"""

_WANT: LiteralString = f"""
INSERT INTO enrichments (version_id, ingestion_id, namespace)
SELECT v.id, v.ingestion_id, v.namespace FROM versions v
WHERE {CURRENT} AND (%(namespace)s::text IS NULL OR v.namespace = %(namespace)s)
  AND NOT EXISTS (SELECT 1 FROM enrichments e WHERE e.version_id = v.id)
ORDER BY v.ingestion_seq ON CONFLICT DO NOTHING RETURNING version_id
"""

_WANT_AGAIN: LiteralString = f"""
{_TRY}
FROM versions v WHERE {_MAY_BE_TRIED} AND v.id = e.version_id AND {CURRENT}
  AND (%(namespace)s::text IS NULL OR e.namespace = %(namespace)s)
RETURNING e.version_id
"""

_COUNTS: LiteralString = f"""
SELECT e.state, count(*) AS n FROM enrichments e JOIN versions v ON v.id = e.version_id
WHERE {CURRENT} AND (%(namespace)s::text IS NULL OR e.namespace = %(namespace)s) GROUP BY e.state
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrichment:
    """One claimed piece of work."""

    version_id: UUID
    ingestion_id: UUID
    document_id: UUID
    namespace: str
    claim: UUID
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPassage:
    """A passage of a version; `ordinal` is the chunk's."""

    ordinal: int
    text: str
    heading_path: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrichmentText:
    """What a model reads; `reference_time` is the document's own date if it is `dated`, else when it was accepted."""

    title: str
    reference_time: datetime | None
    dated: bool
    passages: tuple[TextPassage, ...]


class EnrichmentStore:
    """The life of enrichments in the record."""

    def __init__(self, database: Database, exclusive: Exclusive) -> None:
        self._database = database
        self._exclusive = exclusive

    # --- claiming ----------------------------------------------------------------------------------------------------

    async def claim(self, *, owner: str, limit: int, lease_seconds: float) -> list[Enrichment]:
        """Lease up to `limit` waiting ones to `owner`, each under a claim of its own. An attempt is counted before it runs."""
        bound = {"owner": owner, "limit": limit, "lease_seconds": lease_seconds}
        # Those that were overtaken end here, and say nothing of what waits behind them.
        while rows := await self._database.fetch_all(_CLAIM, bound):
            rows.sort(key=lambda row: row["seq"])
            if claimed := [_enrichment(row) for row in rows if row["state"] == "running"]:
                return claimed
        return []

    async def owned(self, version_id: UUID, claim: UUID) -> Enrichment | None:
        """The work, if it still is the claim's and its version is current; a version that is not ends it as superseded."""
        row = await self._database.fetch_one(_OWNED, (version_id, claim))
        if row is None:
            return None
        if not row["current"]:
            async with self._database.connection() as connection:
                await connection.execute(_SUPERSEDE, (version_id, claim))
            return None
        return _enrichment(row)

    async def renew_leases(self, owner: str, lease_seconds: float) -> None:
        """Keep the leases of a dispatcher that is alive."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE enrichments SET lease_until = clock_timestamp() + make_interval(secs => %s) "
                "WHERE state = 'running' AND lease_owner = %s",
                (lease_seconds, owner),
            )

    async def expired(self, *, not_owner: str, all_others: bool) -> list[Enrichment]:
        """Those whose dispatcher let its lease run out or, with `all_others`, is not `not_owner`."""
        rows = await self._database.fetch_all(_EXPIRED, (not_owner, all_others))
        return [_enrichment(row) for row in rows]

    async def release(self, version_ids: Sequence[UUID], *, claim: UUID | None, lost: bool = False) -> None:
        """Put claimed ones back to wait; those that belong to another claim by now stay as they are.

        With `lost` their run ended without a word; one that this happens to again and again is taken to be the cause, and ends
        as failed.
        """
        bound = {
            "versions": list(version_ids),
            "claim": claim,
            "lost": lost,
            "most": _MAX_LOSSES,
            "failure": json.dumps(_GIVEN_UP.to_dict()),
        }
        async with self._database.connection() as connection:
            await connection.execute(_RELEASE, bound)

    # --- what a model reads, and what it answered --------------------------------------------------------------------

    async def text(self, version_id: UUID) -> EnrichmentText:
        """Title, date and passages of a version; empty for one that was removed meanwhile."""
        head = await self._database.fetch_one(_TEXT, (version_id,))
        rows = await self._database.fetch_all(
            "SELECT ordinal, text, heading_path FROM chunks WHERE version_id = %s ORDER BY ordinal",
            (version_id,),
        )
        return EnrichmentText(
            title=head["title"] if head else "",
            reference_time=head["reference_time"] if head else None,
            dated=head["dated"] if head else False,
            passages=tuple(
                TextPassage(ordinal=row["ordinal"], text=row["text"], heading_path=tuple(row["heading_path"]))
                for row in rows
            ),
        )

    async def answer(self, namespace: str, key: str) -> dict[str, Any] | None:
        """What a model answered to the same question, about any version of the namespace."""
        row = await self._database.fetch_one(
            "SELECT answer FROM model_answers WHERE namespace = %s AND key = %s LIMIT 1", (namespace, key)
        )
        return row["answer"] if row else None

    async def keep_answer(self, version_id: UUID, key: str, answer: dict[str, Any]) -> None:
        """Keep an answer for as long as the version stands, without what names a forgotten entity.

        Nothing is kept for a version that was removed, nor, once entities were forgotten, of an answer that nobody can read.
        """
        async with self._database.transaction() as connection:
            kept: dict[str, Any] | None = answer
            if keys := await hold_off_forgetting(connection):
                kept = await answer_without_forgotten(connection, keys, version_id, answer)
            if kept is None:
                return
            await connection.execute(
                "INSERT INTO model_answers (version_id, key, namespace, answer) "
                "SELECT id, %s, namespace, %s::jsonb FROM versions WHERE id = %s FOR KEY SHARE ON CONFLICT DO NOTHING",
                (key, json.dumps(kept), version_id),
            )

    async def spend(
        self, version_id: UUID, *, requests: int, tokens_in: int, tokens_out: int, seconds: float
    ) -> None:
        """Add to what a version's requests cost; less than nothing takes back an estimate."""
        bound = {
            "version": version_id,
            "requests": requests,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "seconds": seconds,
        }
        async with self._database.connection() as connection:
            await connection.execute(_SPEND, bound)

    async def spent(self, version_id: UUID) -> dict[str, Any]:
        """What a version's requests cost in all of its runs, by the names of `spend`; those that never did lack."""
        row = await self._database.fetch_one(
            "SELECT usage FROM enrichments WHERE version_id = %s", (version_id,)
        )
        names = ("requests", "tokens_in", "tokens_out", "seconds")
        return {name: row["usage"][name] for name in names if name in row["usage"]} if row else {}

    # --- what is known already ---------------------------------------------------------------------------------------

    async def known_by_name(self, namespace: str, names: Sequence[str]) -> dict[str, list[KnownEntity]]:
        """For each name the visible entities, as they are shown, that share it, an alias or its core."""
        async with self._now(namespace) as snapshot:
            return await known.known_by_name(snapshot, names, self._exclusive)

    async def known(self, ids: Sequence[UUID]) -> list[KnownEntity]:
        """The visible ones of these entities, of one namespace, as they are shown, each once."""
        row = await self._database.fetch_one(
            "SELECT namespace FROM entities WHERE id = ANY(%s) LIMIT 1", (list(ids),)
        )
        if row is None:
            return []
        async with self._now(row["namespace"]) as snapshot:
            return await known.known(snapshot, ids, self._exclusive)

    async def known_vectors(
        self, namespace: str, embedder: str, type_: str, *, after: UUID | None, limit: int
    ) -> list[tuple[UUID, bytes]]:
        """Vectors of the names of visible entities of a type: up to `limit` in the order of their ids, behind `after`."""
        async with self._now(namespace) as snapshot:
            return await known.known_vectors(snapshot, embedder, type_, after=after, limit=limit)

    async def facts_of_subject(self, namespace: str, subject: str) -> list[KnownFact]:
        """Facts of the entity that this name is shown as: those that have not ended, then those that have."""
        async with self._now(namespace) as snapshot:
            return await known.facts_of_subject(snapshot, subject, self._exclusive)

    @asynccontextmanager
    async def _now(self, namespace: str) -> AsyncGenerator[Snapshot]:
        async with self._database.snapshot() as connection:
            row = await (
                await connection.execute("SELECT revision FROM namespaces WHERE name = %s", (namespace,))
            ).fetchone()
            yield Snapshot(connection=connection, namespace=namespace, revision=row["revision"] if row else 0)

    # --- ending ------------------------------------------------------------------------------------------------------

    async def published(self, namespace: str) -> int:
        """Changes with each second commit of the namespace; to be asked for before what is known is looked at."""
        async with self._database.connection() as connection:
            return await publishing.published(connection, namespace)

    @asynccontextmanager
    async def publishing_alone(self, namespace: str) -> AsyncGenerator[None]:
        """To the end of the block, no other version of the namespace is published. Waits for those who hold it so.

        Raises:
            Unavailable: the database does not answer.
        """
        async with session_lock(self._database.conninfo, RESOLVING + namespace, wait_seconds=float("inf")):
            yield

    async def publish(
        self, version_id: UUID, claim: UUID, enriched: Enriched, *, alone: bool = False
    ) -> bool:
        """The second commit; False when the work is not the claim's any more, or the version is not current.

        Args:
            version_id: what was read.
            claim: under which.
            enriched: what was found.
            alone: within `publishing_alone`.

        Raises:
            Overtaken: another one was published since `enriched.seen`, or is about to be alone: to be resolved again.
        """
        with faults.around("record.second_commit"):
            return await publishing.publish(self._database, version_id, claim, enriched, alone=alone)

    async def wait(self, version_id: UUID, claim: UUID, error: ApexError, *, seconds: float) -> None:
        """Back to waiting, for this long at least, with the reason shown."""
        async with self._database.connection() as connection:
            await connection.execute(_WAIT, (json.dumps(error.to_dict()), seconds, version_id, claim))

    async def note_failure(self, version_id: UUID, claim: UUID, error: ApexError) -> None:
        """Note why a running one is held up."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE enrichments SET failure = %s::jsonb WHERE version_id = %s AND claim = %s AND state = 'running'",
                (json.dumps(error.to_dict()), version_id, claim),
            )

    async def fail(self, version_id: UUID, claim: UUID, error: ApexError) -> None:
        """End it as failed, with the reason."""
        async with self._database.connection() as connection:
            await connection.execute(_FAIL, (json.dumps(error.to_dict()), version_id, claim))

    async def retry(self, ingestion_id: UUID) -> bool:
        """Have one tried now that failed, was put off or lacks answers; False where this ingestion has none that is current."""
        return await self._database.fetch_one(_RETRY, (ingestion_id,)) is not None

    async def want(self, namespace: str | None) -> int:
        """Ask for the enrichment of every current version that has none, and again for those that `retry` takes; how many."""
        bound = {"namespace": namespace}
        again = await self._database.fetch_all(_WANT_AGAIN, bound, answer_seconds=LONG_SECONDS)
        return len(again) + len(await self._database.fetch_all(_WANT, bound, answer_seconds=LONG_SECONDS))

    async def counts(self, namespace: str | None = None) -> dict[str, int]:
        """Number of current versions by the state of their enrichment."""
        rows = await self._database.fetch_all(_COUNTS, {"namespace": namespace})
        return {row["state"]: row["n"] for row in rows}


def _enrichment(row: dict[str, Any]) -> Enrichment:
    return Enrichment(
        version_id=row["version_id"],
        ingestion_id=row["ingestion_id"],
        document_id=row["document_id"],
        namespace=row["namespace"],
        claim=row["claim"],
        attempts=row["attempts"],
    )
