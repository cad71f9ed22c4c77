"""Verifying: is everything as the record says, and is it mended."""

from collections.abc import AsyncIterator
from dataclasses import asdict

from apex_mcp.caller import Caller
from apex_mcp.operations.base import Operations
from apex_mcp.views import FindingView


class Verifying(Operations):
    """Comparing every index with the record."""

    async def verify(self, caller: Caller, *, repair: bool = False) -> AsyncIterator[FindingView]:
        """Compare every index with the record, and the record with itself; yields each comparison with its outcome.

        It holds while ingestion goes on. With `repair` what differs is mended from the record and compared again; no model
        is asked, and nothing is computed. A store that cannot be compared to the end is a finding with the reason.
        """
        async for found in self._verifier.run(repair=repair):
            yield FindingView(**asdict(found))
