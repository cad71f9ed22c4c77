"""Taking in: files, texts and memories are accepted."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, Conflict, InputError, Unavailable
from apex_mcp.ingestion.accepting import Given, check_namespace
from apex_mcp.ingestion.decoding import clean_text
from apex_mcp.ingestion.room import require_room
from apex_mcp.models import (
    EntityInput,
    FactInput,
    IngestionRequest,
)
from apex_mcp.operations.base import Operations
from apex_mcp.views import (
    IngestionView,
)

_MAX_PAGE_OF_PATHS = 500
_SECOND_TRY_SECONDS = 1.5


class TakingIn(Operations):
    """What is accepted is durable before the answer."""

    async def ingest_document(
        self,
        caller: Caller,
        *,
        source: str | None = None,
        text: str | None = None,
        key: str | None = None,
        title: str | None = None,
        namespace: str | None = None,
        media_type: str | None = None,
        document_time: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        entities: Sequence[EntityInput] = (),
        facts: Sequence[FactInput] = (),
        idempotency_key: str | None = None,
        bulk: bool = False,
    ) -> IngestionView:
        """Accept a file or an inline text; answers once the request is durable.

        Raises:
            InputError: it cannot be taken; nothing was accepted.
            Unavailable: the record does not answer; nothing was accepted.
        """
        if (source is None) == (text is None):
            raise InputError(
                "give either `source` or `text`",
                unchanged="nothing was accepted",
                next_step="`source` is a path of this machine, `text` is content",
            )
        given = Given(
            namespace=namespace or caller.namespace,
            key=key,
            title=_one_line(title),
            media_type=media_type or "",
            document_time=document_time,
            metadata=metadata or {},
            entities=entities,
            facts=facts,
            idempotency_key=idempotency_key,
        )
        if source is not None:
            request = await self._uploads.file(caller, source, given, bulk=bulk)
        else:
            request = self._door.text(text or "", given)
        return await self._accept(request, caller.request_id)

    async def ingest_paths(
        self,
        caller: Caller,
        *,
        paths: Sequence[str],
        namespace: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[IngestionView | ApexError]:
        """Accept up to 500 files in one transaction, to run behind single requests; for each its ingestion or its error.

        Raises:
            InputError: too many paths, or an invalid namespace.
            Unavailable: the record does not answer; nothing was accepted.
        """
        if len(paths) > _MAX_PAGE_OF_PATHS:
            raise InputError(
                f"at most {_MAX_PAGE_OF_PATHS} paths go into one call", next_step="send the list in pages"
            )
        given = Given(namespace=check_namespace(namespace or caller.namespace), metadata=metadata or {})
        outcomes: list[IngestionRequest | ApexError] = []
        for path in paths:
            try:
                outcomes.append(await self._uploads.file(caller, path, given, bulk=True))
            except ApexError as error:
                outcomes.append(error)
        requests = [one for one in outcomes if isinstance(one, IngestionRequest)]
        require_room(self._home)
        ids = await self._record.ingestions.accept(requests)
        for request, ingestion_id in zip(requests, ids, strict=True):
            await self._uploads.settle(request, ingestion_id)
        self._bell.ring({(one.lane, one.bulk) for one in requests})
        views = {one.id: self._present(one) for one in await self._record.ingestions.get(ids)}
        accepted = iter(ids)
        return [one if isinstance(one, ApexError) else views[next(accepted)] for one in outcomes]

    async def add_memory(
        self,
        caller: Caller,
        *,
        text: str,
        title: str | None = None,
        key: str | None = None,
        namespace: str | None = None,
        document_time: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        entities: Sequence[EntityInput] = (),
        facts: Sequence[FactInput] = (),
        idempotency_key: str | None = None,
    ) -> IngestionView:
        """Remember a text; the same text again changes nothing, unless another time is given. Raises as `ingest_document`."""
        return await self.ingest_document(
            caller,
            text=text,
            title=title,
            key=key,
            namespace=namespace,
            document_time=document_time,
            metadata=metadata,
            entities=entities,
            facts=facts,
            idempotency_key=idempotency_key,
        )

    async def _accept(self, request: IngestionRequest, request_id: str | None) -> IngestionView:
        # An id of its own makes it safe to ask the record again when a connection broke in the middle.
        sender = request_id or str(uuid4())
        require_room(self._home)
        ingestion_id: UUID | None = None
        try:
            try:
                (ingestion_id,) = await self._record.ingestions.accept([request], [sender])
            except Unavailable:
                await asyncio.sleep(_SECOND_TRY_SECONDS)
                (ingestion_id,) = await self._record.ingestions.accept([request], [sender])
        except Conflict:
            await self._uploads.settle(request, None)
            raise
        await self._uploads.settle(request, ingestion_id)
        self._bell.ring([(request.lane, request.bulk)])
        return self._present(await self._record.ingestions.get_one(ingestion_id))


def _one_line(title: str | None) -> str:
    return " ".join(clean_text(title or "").split())[:300]
