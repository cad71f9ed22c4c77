"""Upkeep: making an index anew, asking the model again, counts and health."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError, Rejected
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

    async def reindex(
        self, caller: Caller, *, store: Literal["vectors", "graph", "all"] = "all"
    ) -> AsyncIterator[ReindexView]:
        """Make an index anew from the record; yields how far it is. Searches go on meanwhile, and no model is asked.

        The vector index is made for the embedder that is set. It goes on until no passage waits for its vectors any more.
        They come in the background: nothing is lost by leaving while they do. So does a graph that is written with it; one
        that is asked for alone is waited for.

        Raises:
            Conflict: the vector index is being made anew already.
            InputError: there is no graph on a server.
            Unavailable: the record does not answer; the next call carries on.
        """
        if store == "graph":
            async for view in self._rewrite_graph():
                yield view
            return
        graph_stands = self._graph.on_server and store == "all"
        async for what, number in self._index.reindex():
            if graph_stands:
                # Not before it may run. The worker finds that, and writes it anew.
                await self._record.graph_queue.begin_anew()
                graph_stands = False
            yield ReindexView(what=what, number=number)
        async for number in self._index.meaning.to_come():
            yield ReindexView(what="passages that wait for vectors", number=number)

    async def _rewrite_graph(self) -> AsyncIterator[ReindexView]:
        if not self._graph.on_server:
            raise InputError(
                "there is no graph on a server: the record itself is the graph",
                unchanged="nothing was changed",
                next_step="leave the graph out, or set APEX_NEO4J_URI",
            )
        await self._record.graph_queue.begin_anew()
        self._bell.ring()
        while await self._record.graph_queue.has_work():
            waiting = await self._record.graph_queue.waiting()
            yield ReindexView(what="changes that the graph is still to be told", number=waiting)
            await asyncio.sleep(_LOOK_SECONDS)
        yield ReindexView(what="changes that the graph is still to be told", number=0)

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
