"""What waits to be run: each entry is leased to one dispatcher at a time, fair over namespaces, in order for one document."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID, uuid4

from apex_mcp.models import Lane
from apex_mcp.stores.record.database import Database

# Fair over namespaces, in order for one document: its earlier entry, claimed or not, holds back the later one.
_CLAIM: LiteralString = """
WITH waiting AS (
    SELECT w.ingestion_id, w.seq, row_number() OVER (PARTITION BY n.name ORDER BY w.seq) AS turn FROM namespaces n
    CROSS JOIN LATERAL (
        SELECT o.ingestion_id, o.seq FROM outbox o
        WHERE o.namespace = n.name AND o.lane = %(lane)s AND o.bulk = %(bulk)s AND o.lease_owner IS NULL
          AND NOT EXISTS (SELECT 1 FROM outbox e WHERE e.document_id = o.document_id AND e.seq < o.seq)
        ORDER BY o.seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ) AS w
),
leased AS (
    UPDATE outbox o SET lease_owner = %(owner)s, lease_until = now() + make_interval(secs => %(lease_seconds)s)
    FROM (SELECT ingestion_id FROM waiting ORDER BY turn, seq LIMIT %(limit)s) AS mine
    WHERE o.ingestion_id = mine.ingestion_id
    RETURNING o.ingestion_id
)
UPDATE ingestions i SET state = 'running', claim = %(claim)s, attempts = attempts + 1,
    workflow_id = coalesce(%(group_workflow)s, i.id::text), started_at = coalesce(started_at, clock_timestamp())
FROM leased WHERE i.id = leased.ingestion_id
RETURNING i.id, i.seq, (i.request ->> 'size_bytes')::bigint AS size_bytes
"""

# One that is cancelled has no step left to end it.
_RELEASE: LiteralString = """
WITH freed AS (
    UPDATE ingestions SET claim = NULL, step = 'accepted', attempts = attempts - (NOT %(ran)s)::int,
        lane = CASE WHEN %(alone)s THEN 'own' ELSE lane END,
        state = CASE WHEN cancel_requested_at IS NULL THEN 'pending' ELSE 'cancelled' END,
        finished_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE clock_timestamp() END
    WHERE id = ANY(%(ids)s) AND state IN ('pending', 'running') AND (%(claim)s::uuid IS NULL OR claim = %(claim)s)
    RETURNING id, lane, state
),
ended AS (
    DELETE FROM outbox o USING freed WHERE o.ingestion_id = freed.id AND freed.state = 'cancelled' RETURNING o.ingestion_id
),
waiting AS (
    UPDATE outbox o SET lease_owner = NULL, lease_until = NULL, lane = freed.lane
    FROM freed WHERE o.ingestion_id = freed.id AND freed.state = 'pending' RETURNING o.ingestion_id
)
SELECT ingestion_id FROM waiting UNION ALL SELECT ingestion_id FROM ended
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a dispatcher may run now."""

    id: UUID
    size_bytes: int


class Outbox:
    """Entries of ingestions that are not over."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, *, owner: str, lane: Lane, bulk: bool, limit: int, lease_seconds: float
    ) -> tuple[UUID, list[Claimed]]:
        """Lease up to `limit` waiting entries to `owner`, under a new claim token. Each attempt is counted before it runs."""
        token = uuid4()
        rows = await self._database.fetch_all(
            _CLAIM,
            {
                "owner": owner,
                "lane": lane,
                "bulk": bulk,
                "limit": limit,
                "lease_seconds": lease_seconds,
                "claim": token,
                "group_workflow": f"group-{token}" if lane is Lane.FAST else None,
            },
        )
        rows.sort(key=lambda row: row["seq"])
        return token, [Claimed(id=row["id"], size_bytes=row["size_bytes"] or 0) for row in rows]

    async def release(
        self, ingestion_ids: Sequence[UUID], *, claim: UUID | None, alone: bool = False, ran: bool = True
    ) -> list[UUID]:
        """Put claimed entries back to wait; those that are cancelled end. What their run wrote is to be purged before.

        With `alone` they run in a workflow of their own from now on; without `ran` the attempt does not count.
        Those that are over, or belong to another claim by now, stay as they are; the others are returned.
        """
        rows = await self._database.fetch_all(
            _RELEASE, {"ids": list(ingestion_ids), "claim": claim, "alone": alone, "ran": ran}
        )
        return [row["ingestion_id"] for row in rows]

    async def renew_leases(self, owner: str, lease_seconds: float) -> None:
        """Keep the leases of a dispatcher that is alive."""
        async with self._database.connection() as connection:
            await connection.execute(
                "UPDATE outbox SET lease_until = now() + make_interval(secs => %s) WHERE lease_owner = %s",
                (lease_seconds, owner),
            )

    async def expired(self, *, not_owner: str, all_others: bool) -> list[UUID]:
        """Those whose dispatcher let its lease run out or, with `all_others`, is not `not_owner`."""
        rows = await self._database.fetch_all(
            "SELECT ingestion_id FROM outbox WHERE lease_owner <> %s AND (%s OR lease_until < now()) ORDER BY seq",
            (not_owner, all_others),
        )
        return [row["ingestion_id"] for row in rows]
