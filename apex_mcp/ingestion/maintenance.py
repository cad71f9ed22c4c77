"""What is done now and then: content that waited for a retry goes when its time is over."""

from apex_mcp.ingestion.staging import Staging
from apex_mcp.settings import Settings
from apex_mcp.stores.record import Record


class Maintenance:
    """Housekeeping.

    Args:
        settings: for times to keep.
        record: to see what is still running.
        staging: what is cleaned.
    """

    def __init__(self, settings: Settings, record: Record, staging: Staging) -> None:
        self._settings = settings
        self._record = record
        self._staging = staging

    async def run(self) -> int:
        """Remove content that nobody came for; the number of ingestions whose staged content went."""
        old = await self._staging.older_than(self._settings.staging_ttl_seconds)
        known = {one.id: one for one in await self._record.ingestions.get(old)}
        gone = [id_ for id_ in old if id_ not in known or known[id_].state.finished]
        for ingestion_id in gone:
            await self._staging.delete(ingestion_id)
        await self._record.ingestions.drop_contents(self._settings.staging_ttl_seconds)
        return len(gone)
