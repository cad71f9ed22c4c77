"""Following ingestions: their state, cancelling and retrying them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from uuid import UUID

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, Conflict
from apex_mcp.ingestion.accepting import check_namespace
from apex_mcp.models import (
    RETRYABLE,
    EnrichmentState,
    IngestionState,
)
from apex_mcp.operations.base import Operations
from apex_mcp.paging import checked_limit, from_cursor, to_cursor
from apex_mcp.stores.record.ingestions import Ingestion, unknown_ingestion
from apex_mcp.stores.record.requests import path_to_read
from apex_mcp.views import (
    IngestionList,
    IngestionView,
)

_KEEPALIVE_SECONDS = 10.0


class Following(Operations):
    """Everything about one ingestion, or the recent ones."""

    async def get_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, namespace: str | None = None
    ) -> IngestionView:
        """The state of one ingestion.

        Raises:
            NotFound: no ingestion of the namespace has this id.
        """
        return self._present(await self._ingestion(caller, ingestion_id, namespace))

    async def _ingestion(self, caller: Caller, ingestion_id: UUID, namespace: str | None) -> Ingestion:
        """An ingestion of the namespace; the user at the command line, who names none, means any."""
        own = check_namespace(namespace or caller.namespace)
        found = await self._record.ingestions.get_one(ingestion_id)
        if found.namespace != own and (namespace is not None or not caller.vouched):
            raise unknown_ingestion(ingestion_id)
        return found

    async def get_ingestions(self, caller: Caller, *, ingestion_ids: Sequence[UUID]) -> list[IngestionView]:
        """The states of several, in the given order; unknown ids are left out."""
        return [self._present(one) for one in await self._record.ingestions.get(ingestion_ids)]

    async def list_ingestions(
        self,
        caller: Caller,
        *,
        namespace: str | None = None,
        state: IngestionState | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> IngestionList:
        """The recent ingestions of a namespace, newest first."""
        limit = checked_limit(limit)
        found = await self._record.ingestions.recent(
            check_namespace(namespace or caller.namespace),
            state=state,
            limit=limit,
            before=from_cursor(cursor),
        )
        return IngestionList(
            ingestions=[self._present(one) for one in found],
            next_cursor=to_cursor(found[-1].seq) if len(found) == limit else None,
        )

    async def watch_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, wait_seconds: float, namespace: str | None = None
    ) -> AsyncIterator[IngestionView]:
        """Yield the state at each change, and every 10 s; ends when it is final or the time is over.

        Raises:
            NotFound: no ingestion of the namespace has this id.
        """
        deadline = time.monotonic() + wait_seconds
        said: IngestionView | None = None
        said_at = 0.0
        with self._progress.subscribe(ingestion_id) as news:
            while True:
                news.clear()
                view = await self.get_ingestion(caller, ingestion_id=ingestion_id, namespace=namespace)
                now = time.monotonic()
                if view != said or now - said_at >= _KEEPALIVE_SECONDS or now >= deadline:
                    yield view
                    said, said_at = view, now
                left = deadline - time.monotonic()
                if view.finished or left <= 0:
                    return
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes with the news.
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, self._progress.look_seconds)):
                        await news.wait()

    async def cancel_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, namespace: str | None = None
    ) -> IngestionView:
        """Stop an ingestion; what it wrote is removed.

        Raises:
            NotFound: no ingestion of the namespace has this id.
            Conflict: it is over.
        """
        await self._ingestion(caller, ingestion_id, namespace)
        cancelled = await self._record.ingestions.request_cancel(ingestion_id)
        self._progress.publish([ingestion_id])
        return self._present(cancelled)

    async def retry_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, namespace: str | None = None
    ) -> IngestionView:
        """Run a failed or cancelled ingestion again; of one that is searchable, what the model did not answer.

        Raises:
            NotFound: no ingestion of the namespace has this id.
            InputError: its file can't be read for this caller.
            Conflict: it did not fail, is enriched already, or a later one of the same document stands.
        """
        known = await self._ingestion(caller, ingestion_id, namespace)
        if known.state in RETRYABLE and (path := path_to_read(known)):
            self._door.check_again(caller, path)
        try:
            again = await self._record.ingestions.retry(ingestion_id)
        except Conflict:
            tried = await self._record.enrichments.retry(ingestion_id)
            again = await self._record.ingestions.get_one(ingestion_id)
            # What waits for the model, or is read by it now, is on its way, as an ingestion that is not over is.
            on_its_way = again.enrichment in (EnrichmentState.PENDING, EnrichmentState.RUNNING)
            if again.enrichment == EnrichmentState.DONE:
                raise Conflict(
                    "the ingestion is done: its text is searchable, and the model has read it",
                    code=Code.NOT_RETRYABLE,
                    next_step="nothing is left to retry; ingest the document again where it has changed",
                ) from None
            if not tried and not on_its_way:
                raise
        self._bell.ring()
        return self._present(again)
