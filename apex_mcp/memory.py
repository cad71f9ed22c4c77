"""Memory: every operation that a tool, the command line or a page offers, in one class."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, Code, Conflict, InputError, NotFound, Rejected, Unavailable
from apex_mcp.ingestion.accepting import Door, Given, check_namespace
from apex_mcp.ingestion.decoding import clean_text
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.room import require_room
from apex_mcp.ingestion.staging import Staging
from apex_mcp.ingestion.uploading import Uploads
from apex_mcp.models import (
    EnrichmentState,
    EntityInput,
    FactInput,
    IndexFilter,
    IngestionRequest,
    IngestionState,
)
from apex_mcp.paging import checked_limit, from_cursor, to_cursor
from apex_mcp.presenting import present_entities, present_hit, present_ingestion, present_item
from apex_mcp.retrieval.cached import AnswerCache
from apex_mcp.retrieval.documents import DocumentRequest, read_document
from apex_mcp.retrieval.search import Searcher, SearchRequest
from apex_mcp.settings import Settings
from apex_mcp.stats import Stats
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.graph.best import BestGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.progress import Progress
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.ingestions import Ingestion, path_to_read, unknown_ingestion
from apex_mcp.views import (
    DocumentView,
    EnrichView,
    EntityList,
    IngestionList,
    IngestionView,
    MemoryList,
    NeighbourView,
    ReindexView,
    SearchView,
    StatsView,
)

_NEIGHBOURS = 50
_FACTS_OF_A_NEIGHBOUR = 3
_MAX_QUERY_CHARS = 10_000
_MAX_LENGTH = 100_000
_MAX_PAGE_OF_PATHS = 500
_KEEPALIVE_SECONDS = 10.0
_LOOK_SECONDS = 0.5
_SECOND_TRY_SECONDS = 1.5


class Memory:
    """The operations.

    All take the caller first; `namespace` None means the caller's own. Every error is an `ApexError`.

    Args:
        settings: limits.
        record: PostgreSQL.
        index: the vector index and its keeper.
        embedder: or None for words only.
        graph: what is near an entity.
        progress: news of ingestions.
        bell: rung when something was accepted.
        health: the components' conditions.
        staging: where files go as they are accepted, if other machines share it.
        answers: given before; None where a search is no dearer than asking whether it was.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        record: Record,
        index: IndexKeeper,
        embedder: Embedder | None,
        graph: BestGraph,
        progress: Progress,
        bell: Bell,
        health: Health,
        staging: Staging,
        answers: AnswerCache | None,
    ) -> None:
        self._record = record
        self._index = index
        self._graph = graph
        self._settings = settings
        self._progress = progress
        self._bell = bell
        self._health = health
        self._answers = answers
        self._home = settings.home if settings.stores_at_home else None
        self._door = Door(settings)
        self._uploads = Uploads(self._door, staging if settings.staging else None)
        self._searcher = Searcher(record, index, embedder)
        self._stats = Stats(
            settings=settings, record=record, index=index, embedder=embedder, graph=graph, health=health
        )

    # --- taking in ---------------------------------------------------------------------------------------------------

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
        """Remember a text; the same text again changes nothing. Raises as `ingest_document`."""
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

    # --- following ---------------------------------------------------------------------------------------------------

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
        """Run a failed or cancelled ingestion again; of one that is searchable, what the model failed at.

        Raises:
            NotFound: no ingestion of the namespace has this id.
            InputError: its file can't be read for this caller.
            Conflict: it did not fail, is enriched already, or a later one of the same document stands.
        """
        known = await self._ingestion(caller, ingestion_id, namespace)
        if known.state in (IngestionState.ROLLED_BACK, IngestionState.CANCELLED) and (
            path := path_to_read(known)
        ):
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

    def _present(self, ingestion: Ingestion) -> IngestionView:
        return present_ingestion(ingestion, self._health, reads_with_model=self._settings.llm != "none")

    # --- finding and reading -----------------------------------------------------------------------------------------

    async def search(
        self,
        caller: Caller,
        *,
        query: str,
        namespace: str | None = None,
        limit: int = 10,
        source_types: Sequence[str] = (),
        media_types: Sequence[str] = (),
        document_ids: Sequence[UUID] = (),
        after: datetime | None = None,
        before: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        entity: str | None = None,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
    ) -> SearchView:
        """The passages that answer a question best. `as_of` leaves out documents dated later than that time.

        Raises:
            InputError: an argument is not valid.
            Unavailable: the record does not answer.
        """
        query = clean_text(query).strip()
        if not query or len(query) > _MAX_QUERY_CHARS:
            raise InputError(
                f"a query has 1 to {_MAX_QUERY_CHARS} characters",
                next_step="ask a question, or use list_memories to see what is there",
            )
        ends = [_aware(time_) for time_ in (before, as_of) if time_ is not None]
        where = IndexFilter(
            namespace=check_namespace(namespace or caller.namespace),
            source_types=tuple(source_types),
            media_types=tuple(media_types),
            document_ids=tuple(document_ids),
            after=_aware(after),
            before=min(end for end in ends if end is not None) if ends else None,
            metadata=_metadata_filter(metadata),
        )
        request = SearchRequest(
            query=query,
            where=where,
            limit=checked_limit(limit),
            entity=entity or None,
            known_at=_aware(known_at),
        )
        if self._answers is None or request.known_at is not None:
            return await self._search(request)
        return await self._answers.search(where.namespace, request, lambda: self._search(request))

    async def _search(self, request: SearchRequest) -> SearchView:
        found = await self._searcher.search(request)
        return SearchView(
            query=request.query,
            namespace=request.where.namespace,
            hits=[present_hit(fused, row) for fused, row in found.passages],
            revision=found.revision,
            degraded=found.degraded,
        )

    async def get_entities(
        self,
        caller: Caller,
        *,
        query: str | None = None,
        entity_id: UUID | None = None,
        type: str | None = None,
        namespace: str | None = None,
        limit: int = 10,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
        hops: int = 0,
    ) -> EntityList:
        """Entities by name, id or type, with their facts and sources; `as_of` says which facts are current.

        It leaves out sources that are dated later; mentions are counted in all.
        With `hops` (1 to 3) also the entities that so many facts join to them; `as_of` passes facts only that were true then.

        Raises:
            NotFound: no visible entity has this id.
            Unavailable: the record does not answer.
        """
        name = check_namespace(namespace or caller.namespace)
        words, known_at, limit = (
            clean_text(query or "").strip() or None,
            _aware(known_at),
            checked_limit(limit),
        )
        named: list[UUID] | None = None
        lacks: list[str] = []
        if words and self._graph.on_server and entity_id is None and not type and known_at is None:
            named, lacks = await self._graph.find_names(name, words, limit=limit)
        async with self._record.reader.view(name, known_at=known_at) as view:
            if named is not None:
                rows = await view.entities_of(named)
            else:
                rows = await view.find_entities(
                    query=words, entity_id=entity_id, type_=type or None, limit=limit
                )
            if entity_id is not None and not rows:
                raise NotFound(
                    f"no entity has the id {entity_id}",
                    next_step="call get_entities with a name to find its id",
                )
            wanted = [row["id"] for row in rows]
            facts = await view.facts_of(wanted, limit=50 * max(1, len(wanted)))
            sources = await view.sources_of(wanted, until=_aware(as_of))
        neighbours: list[NeighbourView] = []
        if hops and wanted:
            neighbours, more = await self._neighbours(name, wanted, hops, _aware(as_of), known_at)
            lacks = list(dict.fromkeys([*lacks, *more]))
        return EntityList(
            namespace=name,
            entities=present_entities(rows, facts, sources, as_of=_aware(as_of) or datetime.now(UTC)),
            neighbours=neighbours,
            degraded=lacks,
        )

    async def _neighbours(
        self,
        namespace: str,
        entity_ids: Sequence[UUID],
        hops: int,
        as_of: datetime | None,
        known_at: datetime | None,
    ) -> tuple[list[NeighbourView], list[str]]:
        near, lacks = await self._graph.neighbours(
            namespace, entity_ids, hops=hops, limit=_NEIGHBOURS, as_of=as_of, known_at=known_at
        )
        async with self._record.reader.view(namespace, known_at=known_at) as view:
            shown = {row["id"]: row for row in await view.entities_of([one.entity_id for one in near])}
            said = await view.sentences([
                fact for one in near for fact in one.fact_ids[:_FACTS_OF_A_NEIGHBOUR]
            ])
        return [
            NeighbourView(
                entity_id=one.entity_id,
                name=row["name"],
                type=row["type"],
                hops=one.hops,
                by=list(dict.fromkeys(said[fact] for fact in one.fact_ids if fact in said)),
            )
            for one in near
            if (row := shown.get(one.entity_id)) is not None
        ], lacks

    async def split_entity(
        self, caller: Caller, *, entity_id: UUID, other_id: UUID, namespace: str | None = None
    ) -> EntityList:
        """Undo that two entities are shown as one; both as they are shown now.

        Raises:
            Conflict: they are not one.
            Unavailable: the record does not answer.
        """
        name = check_namespace(namespace or caller.namespace)
        await self._record.splits.split(name, entity_id, other_id)
        return await self._shown(name, entity_id, other_id)

    async def join_entity(
        self, caller: Caller, *, entity_id: UUID, other_id: UUID, namespace: str | None = None
    ) -> EntityList:
        """Take back a split: what links the two counts again.

        Raises:
            Conflict: they were not split.
            Unavailable: the record does not answer.
        """
        name = check_namespace(namespace or caller.namespace)
        await self._record.splits.join(name, entity_id, other_id)
        return await self._shown(name, entity_id, other_id)

    async def _shown(self, namespace: str, *entity_ids: UUID) -> EntityList:
        async with self._record.reader.view(namespace) as view:
            found = [
                await view.find_entities(query=None, entity_id=id_, type_=None, limit=1) for id_ in entity_ids
            ]
            rows = {row["id"]: row for some in found for row in some}
            sources = await view.sources_of(list(rows))
        return EntityList(
            namespace=namespace,
            entities=present_entities(list(rows.values()), [], sources, as_of=datetime.now(UTC)),
        )

    async def get_document(
        self,
        caller: Caller,
        *,
        document_id: UUID | None = None,
        key: str | None = None,
        chunk_id: UUID | None = None,
        version: int | None = None,
        start: int = 0,
        length: int = 8000,
        page: int | None = None,
        namespace: str | None = None,
    ) -> DocumentView:
        """A document's text, or the surroundings of a passage (`chunk_id`), or one page of it.

        Raises:
            InputError: an argument is not valid.
            NotFound: there is no such document, version, passage or page.
        """
        name = check_namespace(namespace or caller.namespace)
        if not 1 <= length <= _MAX_LENGTH or start < 0:
            raise InputError(
                f"`length` is 1 to {_MAX_LENGTH}, `start` 0 or more", next_step="read long documents in parts"
            )
        request = DocumentRequest(
            document_id=document_id,
            key=key,
            chunk_id=chunk_id,
            version=version,
            start=start,
            length=length,
            page=page,
        )
        if self._answers is None:
            return await self._read(name, request)
        return await self._answers.document(name, request, lambda: self._read(name, request))

    async def _read(self, namespace: str, request: DocumentRequest) -> DocumentView:
        async with self._record.reader.view(namespace) as view:
            return await read_document(view, request)

    async def list_memories(
        self,
        caller: Caller,
        *,
        namespace: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        source_types: Sequence[str] = (),
    ) -> MemoryList:
        """What is in a namespace, newest first."""
        name, limit, before = (
            check_namespace(namespace or caller.namespace),
            checked_limit(limit),
            from_cursor(cursor),
        )
        async with self._record.reader.view(name) as view:
            rows = await view.list_documents(source_types=source_types, limit=limit, before=before)
            counts = await view.counts()
        return MemoryList(
            namespace=name,
            items=[present_item(row) for row in rows],
            total=counts["documents"],
            next_cursor=to_cursor(rows[-1]["ingestion_seq"]) if len(rows) == limit else None,
        )

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


def _aware(time_: datetime | None) -> datetime | None:
    """Times without a zone are taken as UTC."""
    return time_.replace(tzinfo=UTC) if time_ is not None and time_.tzinfo is None else time_


def _one_line(title: str | None) -> str:
    return " ".join(clean_text(title or "").split())[:300]


def _metadata_filter(metadata: dict[str, Any] | None) -> dict[str, tuple[str | int | float | bool, ...]]:
    wanted: dict[str, tuple[str | int | float | bool, ...]] = {}
    for name, value in (metadata or {}).items():
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str | int | float | bool) for one in values):
            raise InputError(
                "a metadata filter is a value or a list of values (strings, numbers, booleans) for each field",
                next_step='for example {"project": "apollo", "year": [2025, 2026]}',
            )
        wanted[name] = tuple(values)
    return wanted
