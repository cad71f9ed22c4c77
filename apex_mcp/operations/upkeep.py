"""Upkeep: making an index anew, asking the model again, counts and health."""

import asyncio
from collections.abc import AsyncIterator

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, Rejected
from apex_mcp.ingestion.accepting import check_namespace
from apex_mcp.models import (
    EnrichmentState,
)
from apex_mcp.operations.base import Operations
from apex_mcp.views import (
    EnrichView,
    ReindexView,
    StatsView,
)

_LOOK_SECONDS = 0.5


class Upkeep(Operations):
    """What keeps a memory whole, and says how it is."""

    async def reindex(self, caller: Caller) -> AsyncIterator[ReindexView]:
        """Make the vector index anew from the record, for the embedder that is set; yields how far it is.

        It goes on until no passage waits for its vectors any more. They come in the background: nothing is lost by leaving
        while they do.

        Raises:
            Conflict: it is being made anew already.
            Unavailable: the record does not answer; the next call carries on.
        """
        graph_stands = self._graph.on_server
        async for what, number in self._index.reindex():
            if graph_stands:
                # Not before it may run. The worker finds that, and writes it anew.
                await self._record.graph_queue.end()
                graph_stands = False
            yield ReindexView(what=what, number=number)
        async for number in self._index.vectors_to_come():
            yield ReindexView(what="passages that wait for vectors", number=number)

    async def enrich(self, caller: Caller, *, namespace: str | None = None) -> AsyncIterator[EnrichView]:
        """Have the model read what it has not: stored without one, or failed. Of all namespaces if none is given.

        Yields how far it is.

        Raises:
            Rejected: no model is set (`settings_invalid`).
            Unavailable: the record does not answer; what was asked for goes on.
        """
        if self._settings.llm == "none":
            raise Rejected(
                "no model is set, so entities and facts come from rules only",
                code=Code.SETTINGS_INVALID,
                next_step="set APEX_LLM=openai and its endpoint (docs/configuration.md), run `apex-mcp stop`, try again",
            )
        await self._record.enrichments.want(check_namespace(namespace) if namespace else None)
        self._bell.ring()
        last: EnrichView | None = None
        while last is None or last.waiting:
            counts = await self._record.enrichments.counts()
            view = EnrichView(
                waiting=counts.get(EnrichmentState.PENDING, 0) + counts.get(EnrichmentState.RUNNING, 0),
                done=counts.get(EnrichmentState.DONE, 0),
                failed=counts.get(EnrichmentState.FAILED, 0),
            )
            if view != last:
                yield view
            last = view
            if view.waiting:
                await asyncio.sleep(_LOOK_SECONDS)

    async def get_stats(self, caller: Caller, *, namespace: str | None = None) -> StatsView:
        """Counts, and the health of each store."""
        return await self._stats.of(check_namespace(namespace or caller.namespace))
