"""What is staged, compared with the ingestions that it waits for."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from apex_mcp.ingestion.staging import Staging
from apex_mcp.ingestion.verifying.findings import STAGING, Finding, finding
from apex_mcp.models import RETRYABLE
from apex_mcp.stores.record.ingestions import Ingestion, IngestionStore

# Maintenance comes once an hour, and may have just missed it.
GRACE_SECONDS = 2 * 3600.0
_LAST_STEP = timedelta(minutes=1)


class StagingVerifier:
    """Finds content that nobody comes for any more.

    Args:
        ingestions: which of them are over.
        staging: where content waits.
        ttl_seconds: how long it waits for a retry, or for being accepted.
    """

    def __init__(self, ingestions: IngestionStore, staging: Staging, ttl_seconds: float) -> None:
        self._ingestions = ingestions
        self._staging = staging
        self._ttl_seconds = ttl_seconds

    async def run(self, *, repair: bool, grace_seconds: float = GRACE_SECONDS) -> AsyncGenerator[Finding]:
        """Yield what lies there past its time and this grace.

        Raises:
            Unavailable: the record or the staging does not answer.
        """
        old = await self._old(grace_seconds)
        left = old
        if repair and old:
            await self.remove(grace_seconds=grace_seconds)
            left = await self._old(grace_seconds)
        yield finding(
            STAGING,
            "staged content is of ingestions that are not over, or wait for a retry",
            compared=len(await self._staging.older_than(0)),
            before=old,
            after=left,
        )

    async def remove(self, *, grace_seconds: float = 0) -> int:
        """Remove what lies there past its time and this grace; the number of ingestions whose content went.

        Raises:
            Unavailable: the record or the staging does not answer.
        """
        old = await self._old(grace_seconds)
        for ingestion_id in old:
            await self._staging.delete(ingestion_id)
        return len(old)

    async def _old(self, grace_seconds: float) -> list[UUID]:
        # What was staged just now may be accepted in a moment: only age tells it from what never will be.
        old = set(await self._staging.older_than(self._ttl_seconds + grace_seconds))
        before = datetime.now(UTC) - _LAST_STEP - timedelta(seconds=grace_seconds)
        staged = await self._staging.older_than(0)
        known = {one.id: one for one in await self._ingestions.get(staged)}
        return [
            one
            for one in staged
            if (one in old and (one not in known or known[one].state.finished))
            or (one in known and _nobody_comes_for(known[one], before))
        ]


def _nobody_comes_for(ingestion: Ingestion, before: datetime) -> bool:
    """Whether it was searchable or overtaken before then: its last step may have been killed before it removed anything."""
    return (
        ingestion.state.finished
        and ingestion.state not in RETRYABLE
        and ingestion.finished_at is not None
        and ingestion.finished_at < before
    )
