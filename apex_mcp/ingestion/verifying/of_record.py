"""The record compared with itself."""

from collections.abc import AsyncGenerator, Sequence

from apex_mcp.ingestion.verifying.findings import RECORD, Finding
from apex_mcp.stores.record.checking import RecordChecks
from apex_mcp.stores.record.checks import Check


class RecordVerifier:
    """The checks of the record.

    Args:
        checks: compares and mends.
    """

    def __init__(self, checks: RecordChecks) -> None:
        self._checks = checks

    async def run(self, *, repair: bool, only: Sequence[Check] | None = None) -> AsyncGenerator[Finding]:
        """Yield each comparison, all of them or those that are given.

        Raises:
            Unavailable: the record does not answer.
        """
        for check in self._checks.every if only is None else only:
            before = after = await self._checks.look(check)
            if repair and before.differs and check.mending:
                await self._checks.mend(check)
                after = await self._checks.look(check)
            yield Finding(
                store=RECORD,
                what=check.what,
                compared=before.compared,
                differs=before.differs,
                left=after.differs,
                examples=before.examples,
                note=check.note if after.differs else "",
            )
