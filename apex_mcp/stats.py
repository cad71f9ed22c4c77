"""Counts of a namespace, and the condition of each store as its users see it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import apex_mcp
from apex_mcp.errors import ApexError, Unavailable
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.room import require_room
from apex_mcp.settings import Settings
from apex_mcp.stores.graph.best import BestGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.index_log import IndexUse
from apex_mcp.views import StatsView, StoreHealth
from apex_mcp.wording import counted

# As a search waits for it.
_STORE_SECONDS = 3.0


class Stats:
    """What `get_stats` answers.

    Args:
        settings: of which it says what is set, and where texts go.
        record: PostgreSQL.
        index: the vector index and its keeper.
        embedder: or None for words only.
        graph: what is near an entity.
        health: the components' conditions.
        verify_redis: raises where Redis does not answer; None without one.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        record: Record,
        index: IndexKeeper,
        embedder: Embedder | None,
        graph: BestGraph,
        health: Health,
        verify_redis: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self._settings = settings
        self._record = record
        self._index = index
        self._embedder = embedder
        self._graph = graph
        self._health = health
        self._verify_redis = verify_redis

    async def of(self, namespace: str) -> StatsView:
        """The namespace's counts, and the stores' health.

        Raises:
            Unavailable: the record does not answer.
        """
        async with self._record.reader.view(namespace) as view:
            counts, revision = await view.counts() | await view.graph_counts(), view.revision
            index = view.index
        stores, embedder = await self._stores(await self._vectors(index))
        return StatsView(
            namespace=namespace,
            namespaces=await self._record.reader.namespaces(),
            documents=counts["documents"],
            versions=counts["versions"],
            chunks=counts["chunks"],
            entities=counts["entities"],
            facts=counts["facts"],
            ingestions=await self._record.reader.ingestion_counts(namespace),
            enrichments=await self._record.enrichments.counts(namespace),
            revision=revision,
            stores=stores,
            degraded=[f"{one.name}: {one.detail}" for one in stores if one.state in ("degraded", "down")],
            embedder=embedder,
            version=apex_mcp.__version__,
        )

    def _model(self) -> StoreHealth:
        """The model that reads what is stored, and where texts go for that."""
        if self._settings.llm == "none":
            return StoreHealth(
                name="model", state="off", detail="entities and facts come from rules only (APEX_LLM=none)"
            )
        host = urlsplit(self._settings.openai_base_url).hostname
        where = f"texts of documents go to {self._settings.llm_model} at {host}"
        condition = self._health.of("model")
        detail = f"{condition.detail}; {where}" if condition.detail else where
        return StoreHealth(name="model", state=condition.state, detail=detail)

    async def _graph_health(self) -> StoreHealth:
        # Asked, not remembered: a server that only reads leaves it alone while something waits to be written.
        queue = self._record.graph_queue
        lacks = await self._graph.lacks()
        # The number last: where nothing waits any more, nothing of what was forgotten is left.
        forgotten, waiting = await queue.forgettings_waiting(), await queue.waiting()
        detail = (
            f"{counted(waiting, 'change waits', 'changes wait')} to be written" if waiting else "up to date"
        )
        if waiting and forgotten:
            detail += ", so it still holds what was forgotten"
        return StoreHealth(
            name="graph",
            state="down" if lacks else self._health.of("graph").state,
            detail=f"{lacks}; the record answers; {detail}" if lacks else f"Neo4j: {detail}",
        )

    async def _vectors(self, use: IndexUse) -> StoreHealth:
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                points = await (await self._index.follow(use)).count()
        except ApexError as error:
            return StoreHealth(name="vectors", state="down", detail=error.message)
        except TimeoutError:
            return StoreHealth(name="vectors", state="down", detail="the index does not answer in time")
        lacks = self._index.lacks(use)
        detail = lacks or f"{counted(points, 'passage')} in the index"
        return StoreHealth(name="vectors", state="degraded" if lacks else "ok", detail=detail)

    async def _stores(self, vectors: StoreHealth) -> tuple[list[StoreHealth], str]:
        if self._verify_redis is not None:
            # Asked, not remembered: since it came back, nobody may have needed it.
            with suppress(Unavailable):
                await self._verify_redis()
        temporal = self._health.of("temporal")
        stores = [
            StoreHealth(name="postgresql", state="ok"),
            StoreHealth(name="temporal", state=temporal.state, detail=temporal.detail),
            self._model(),
            vectors,
        ]
        stores += [
            StoreHealth(name=name, state=one.state, detail=one.detail)
            for name in ("redis", "staging")
            if (one := self._health.conditions.get(name)) is not None
        ]
        try:
            await asyncio.to_thread(
                require_room, self._settings.home if self._settings.stores_at_home else None
            )
        except Unavailable as full:
            stores.append(
                StoreHealth(name="disk", state="degraded", detail=f"{full.message}; {full.next_step}")
            )
        if self._graph.on_server:
            stores.append(await self._graph_health())
        embedder = self._embedder
        if embedder is None:
            stores.append(
                StoreHealth(
                    name="embedder", state="off", detail="search is by words only (APEX_EMBEDDER=none)"
                )
            )
            return stores, "none"
        owed = self._index.meaning.owed
        if lacks := self._index.meaning.lacking():
            state, detail = "degraded", lacks
        else:
            waiting = f"{counted(owed, 'passage waits', 'passages wait')} for vectors"
            state, detail = "ok", waiting if owed else embedder.state.text
        stores.append(StoreHealth(name="embedder", state=state, detail=detail))
        return stores, embedder.name
