"""What is done now and then: what is past its time goes, and what a crash left behind is mended."""

from collections.abc import Awaitable, Callable
from typing import LiteralString

from apex_mcp.errors import ApexError
from apex_mcp.ingestion.contract import MaintenanceResult
from apex_mcp.ingestion.erasing import Eraser
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.verifying import Verifier
from apex_mcp.settings import Settings
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.cache.protocol import Cache
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.checks import STUCK

# One run at a time among all processes of a record: the next one waits.
_ALONE: LiteralString = "apex-mcp maintenance"
_WAIT_SECONDS = 3600.0
_DAY_SECONDS = 86_400.0
_PURGE_DAYS = 30
_FORGETTING_DAYS = 365


class Maintenance:
    """Housekeeping.

    Args:
        settings: for times to keep.
        record: PostgreSQL.
        index: the vector index and its keeper.
        verifier: finds what is left over.
        eraser: rids files of what was forgotten.
        cache: of this process, or on a server.
        bell: rung when something goes on that was stuck.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        record: Record,
        index: IndexKeeper,
        verifier: Verifier,
        eraser: Eraser,
        cache: Cache,
        bell: Bell,
    ) -> None:
        self._settings = settings
        self._record = record
        self._index = index
        self._verifier = verifier
        self._eraser = eraser
        self._cache = cache
        self._bell = bell

    async def run(self, *, erase: bool = False) -> MaintenanceResult:
        """Do all of it; where it is being done already, once more after that.

        Args:
            erase: rid files of what was forgotten now, and not only when it is due.

        Raises:
            Unavailable: a store does not answer; what was done stays done, and the next run does the rest.
        """
        done: dict[str, int] = {}
        failures: list[ApexError] = []
        parts: dict[str, Callable[[], Awaitable[int]]] = {
            "stuck": self._free_stuck,
            "staged": self.clean_staging,
            "pruned": self._prune,
            "orphans": self._verifier.remove_orphans,
            "dropped": self._drop_old,
            "expired": self._cache.tidy,
            "erased": lambda: self._eraser.run(now=erase),
        }
        async with self._record.index_log.alone(_ALONE, wait_seconds=_WAIT_SECONDS) as alone:
            for name, part in parts.items() if alone else ():
                try:
                    done[name] = await part()
                except ApexError as error:
                    # A store that is away keeps nothing from being done in the others.
                    failures.append(error)
        if failures:
            raise failures[0]
        rewritten = bool(alone) and self._eraser.rewrites and (erase or done["erased"] > 0)
        return MaintenanceResult(**done, rewritten=rewritten)

    async def clean_staging(self) -> int:
        """Remove content that nobody came for; the number of ingestions whose staged content went.

        Raises:
            Unavailable: the record or the staging does not answer.
        """
        gone = await self._verifier.staging.remove()
        await self._record.ingestions.drop_contents(self._settings.staging_ttl_seconds)
        return gone

    async def _free_stuck(self) -> int:
        found = [one async for one in self._verifier.record.run(repair=True, only=STUCK)]
        freed = sum(one.differs for one in found)
        if freed:
            self._bell.ring()
        return freed

    async def _drop_old(self) -> int:
        dropped = await self._record.retention.drop_old(
            purge_days=_PURGE_DAYS, forgetting_days=_FORGETTING_DAYS
        )
        return dropped.purges + dropped.forgettings

    async def _prune(self) -> int:
        days = self._settings.keep_past_days
        pruned = 0
        while days is not None and (old := await self._record.retention.prune(days * _DAY_SECONDS)):
            await self._index.purge(old)
            pruned += len(old)
        return pruned
