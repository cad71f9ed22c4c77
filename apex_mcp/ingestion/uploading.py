"""Files go to staging as they are accepted, where processes on several machines share it: whoever runs one may be elsewhere."""

import asyncio
from contextlib import suppress
from uuid import UUID

from apex_mcp import faults
from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError
from apex_mcp.ingestion.accepting import Door, Given
from apex_mcp.ingestion.drafts import RAW
from apex_mcp.ingestion.staging import Staging
from apex_mcp.models import IngestionRequest


class Uploads:
    """Makes requests for files.

    Args:
        door: checks what is asked.
        staging: where bytes go, if other machines share it; None leaves them where they are.
    """

    def __init__(self, door: Door, staging: Staging | None) -> None:
        self._door = door
        self._staging = staging

    async def file(
        self, caller: Caller, source: str, given: Given, *, bulk: bool = False
    ) -> IngestionRequest:
        """A request for one file, its bytes staged under the id that its ingestion is to have.

        Raises:
            InputError: the file, or an argument, cannot be taken.
            Unavailable: staging does not answer, or is full.
        """
        if self._staging is None:
            return self._door.file(caller, source, given, bulk=bulk)
        request, data = await asyncio.to_thread(self._door.upload, caller, source, given, bulk=bulk)
        assert request.upload is not None
        with faults.around("staging.put"):
            await self._staging.put(request.upload, RAW, data)
        return request

    async def settle(self, request: IngestionRequest, ingestion_id: UUID | None) -> None:
        """Remove at once what was staged for a request that was refused, or equals an ingestion that has its own copy.

        What this misses goes when its time is over: no ingestion has its id.
        """
        if self._staging is not None and request.upload not in (None, ingestion_id):
            with suppress(ApexError):
                await self._staging.delete(request.upload)
