"""Files are rid of what was forgotten: the record's are written anew, and the vector index is made anew beside the old one."""

from datetime import timedelta

from apex_mcp.errors import Conflict
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.settings import Settings
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.erasing import OpenErasures

# Maintenance comes once an hour, and rewriting takes its time.
_BEFORE_THE_DEADLINE = timedelta(hours=2)


class Eraser:
    """Erases what is due.

    Attributes:
        rewrites: erasing leaves no file of the record with what was removed; else tables are vacuumed only.

    Args:
        settings: when it is due.
        record: PostgreSQL.
        index: the vector index and its keeper.
        bundled: the database is the data folder's own, so that its files are ours to rewrite.
    """

    def __init__(self, settings: Settings, record: Record, index: IndexKeeper, *, bundled: bool) -> None:
        self._deadline = timedelta(hours=settings.erase_hours)
        self._record = record
        self._index = index
        self.rewrites = bundled

    async def run(self, *, now: bool = False) -> int:
        """Erase if something is due, or `now`; the number of requests to forget that files are rid of by then.

        Raises:
            Conflict: the index is being made anew already, and it is to be erased `now`.
            Unavailable: a store does not answer, or has no room; what is due stays so.
        """
        erasures = self._record.erasures
        waiting = await erasures.open()
        if not now and not await self._is_due(waiting):
            return 0
        try:
            await self._index.renew()
        except Conflict:
            if now:
                raise
            return 0  # it is being made anew by somebody else, who may have begun before; the next run is within the hour
        if self.rewrites:
            await erasures.rewrite()
        else:
            await erasures.vacuum()
        return await erasures.note(waiting.now)

    async def _is_due(self, waiting: OpenErasures) -> bool:
        """As late as may be, since it is dear, so that one run does for many; in the second half of the time when it is quiet."""
        if waiting.oldest is None:
            return False
        age = waiting.now - waiting.oldest
        if age >= self._deadline - _BEFORE_THE_DEADLINE:
            return True
        return age >= self._deadline / 2 and not await self._record.ingestions.unfinished()
