"""A Memory in a dict, for what the server does around it; the real one is tested end to end elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from apex_mcp import ids
from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, Code, Conflict, InputError, NotFound
from apex_mcp.memory import Memory
from apex_mcp.models import IngestionState, SourceType, Step
from apex_mcp.views import (
    ArchiveView,
    DocumentView,
    EntityList,
    EntityView,
    FactView,
    ForgetView,
    ForgottenDocument,
    Hit,
    IngestionList,
    IngestionView,
    MemoryItem,
    MemoryList,
    SearchView,
    Source,
    StatsView,
    StoreHealth,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Notebook:
    """Texts by document id. `calls` keeps what came in."""

    def __init__(self) -> None:
        self.texts: dict[UUID, tuple[str, str]] = {}
        self.entities: dict[str, str] = {}
        self.ingestions: dict[UUID, IngestionView] = {}
        self.calls: list[tuple[str, Caller, dict[str, Any]]] = []
        self.show_steps: tuple[Step, ...] = ()
        self.stuck = False
        self.crash: Exception | None = None

    @wraps(Memory.ingest_document)
    async def ingest_document(self, caller: Caller, **given: Any) -> IngestionView:
        self.calls.append(("ingest_document", caller, given))
        if self.crash is not None:
            raise self.crash
        if (given.get("source") is None) == (given.get("text") is None):
            raise InputError("give either source or text", next_step="call again with one of them")
        return self._accept(
            given.get("title") or given.get("key") or "document",
            str(given.get("text") or given.get("source")),
            given,
        )

    async def ingest_paths(
        self,
        caller: Caller,
        *,
        paths: Sequence[str],
        namespace: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> list[IngestionView | ApexError]:
        given = {"key": None, "namespace": namespace, "entities": ()}
        self.calls.append(("ingest_paths", caller, {"paths": paths, "metadata": metadata}))
        answers: list[IngestionView | ApexError] = []
        for path in paths:
            try:
                answers.append(
                    self._accept(path, await asyncio.to_thread(Path(path).read_text, encoding="utf-8"), given)
                )
            except OSError:
                answers.append(
                    InputError("there is no such file", code=Code.PATH_NOT_FOUND, next_step="check the path")
                )
            except ApexError as error:
                answers.append(error)
        return answers

    async def get_ingestions(self, caller: Caller, *, ingestion_ids: Sequence[UUID]) -> list[IngestionView]:
        self.show_steps = ()
        return [await self._last(caller, ingestion_id) for ingestion_id in ingestion_ids]

    async def _last(self, caller: Caller, ingestion_id: UUID) -> IngestionView:
        async for view in self.watch_ingestion(caller, ingestion_id=ingestion_id, wait_seconds=0):
            return view
        return self.ingestions[ingestion_id]

    @wraps(Memory.add_memory)
    async def add_memory(self, caller: Caller, **given: Any) -> IngestionView:
        self.calls.append(("add_memory", caller, given))
        return self._accept(given.get("title") or "note", given["text"], given)

    def _accept(self, title: str, text: str, given: dict[str, Any]) -> IngestionView:
        if not text.strip():
            raise InputError(
                "the text is empty", code=Code.EMPTY_CONTENT, next_step="give a text with words in it"
            )
        document = ids.document_id("default", given.get("key") or title)
        self.texts[document] = (title, text)
        self.entities |= {entity.name: entity.type for entity in given.get("entities", ())}
        waits = bool(self.show_steps) or self.stuck
        view = IngestionView(
            ingestion_id=uuid4(),
            document_id=document,
            namespace=given.get("namespace") or "default",
            key=given.get("key") or title,
            title=title,
            state=IngestionState.RUNNING if waits else IngestionState.READY,
            step=Step.ACCEPTED if waits else Step.CLEANUP,
            steps_done=0 if waits else 6,
            finished=not waits,
            version=None if waits else 1,
            chunks=None if waits else 1,
            accepted_at=NOON,
        )
        self.ingestions[view.ingestion_id] = view
        return view

    async def watch_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, wait_seconds: float, namespace: str | None = None
    ) -> AsyncIterator[IngestionView]:
        view = self.ingestions[ingestion_id]
        for step in self.show_steps:
            done = list(Step).index(step) - 1
            yield view.model_copy(update={"step": step, "steps_done": done})
        if self.stuck:
            return
        ready = view.model_copy(
            update={
                "state": IngestionState.READY,
                "step": Step.CLEANUP,
                "steps_done": 6,
                "finished": True,
                "version": 1,
            }
        )
        self.ingestions[ingestion_id] = ready
        yield ready

    async def get_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, namespace: str | None = None
    ) -> IngestionView:
        if ingestion_id not in self.ingestions:
            raise NotFound(
                "no ingestion has this id", next_step="get_ingestion without an id lists the recent ones"
            )
        return self.ingestions[ingestion_id]

    @wraps(Memory.list_ingestions)
    async def list_ingestions(self, caller: Caller, **given: Any) -> IngestionList:
        found = [view for view in self.ingestions.values() if given.get("state") in (None, view.state)]
        return IngestionList(ingestions=found[::-1][: given["limit"]])

    async def cancel_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, namespace: str | None = None
    ) -> IngestionView:
        view = await self.get_ingestion(caller, ingestion_id=ingestion_id)
        if view.finished:
            raise Conflict("the ingestion is finished", next_step="nothing is left to cancel")
        return view.model_copy(update={"state": IngestionState.CANCELLED, "finished": True})

    async def retry_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, namespace: str | None = None
    ) -> IngestionView:
        view = await self.get_ingestion(caller, ingestion_id=ingestion_id)
        return view.model_copy(update={"state": IngestionState.PENDING, "finished": False})

    @wraps(Memory.search)
    async def search(self, caller: Caller, **given: Any) -> SearchView:
        self.calls.append(("search", caller, given))
        hits = [
            Hit(
                chunk_id=ids.chunk_id(document, 0),
                text=text,
                score=0.9,
                why={"words": 0.9},
                source=self._source(document),
                page=3,
                heading_path=["Results", "Sales"],
                start=0,
                end=len(text),
            )
            for document, (_, text) in self.texts.items()
            if any(word in text.casefold() for word in given["query"].casefold().split())
        ]
        return SearchView(
            query=given["query"],
            namespace=caller.namespace,
            hits=hits[: given["limit"]],
            revision=1,
            degraded=[],
        )

    @wraps(Memory.get_entities)
    async def get_entities(self, caller: Caller, **given: Any) -> EntityList:
        found = [
            EntityView(
                entity_id=ids.entity_id("default", name),
                name=name,
                type=kind,
                mentions=1,
                facts=[
                    FactView(
                        fact_id=uuid4(),
                        subject=name,
                        predicate="is",
                        object=kind,
                        sentence=f"{name} is a {kind}.",
                        valid_at=NOON,
                        current=True,
                    )
                ],
            )
            for name, kind in self.entities.items()
            if given.get("query") in (None, name)
            and given.get("entity_id") in (None, ids.entity_id("default", name))
        ]
        return EntityList(namespace="default", entities=found[: given["limit"]])

    @wraps(Memory.split_entity)
    async def split_entity(self, caller: Caller, **given: Any) -> EntityList:
        self.calls.append(("split_entity", caller, given))
        return self._all_entities()

    @wraps(Memory.join_entity)
    async def join_entity(self, caller: Caller, **given: Any) -> EntityList:
        self.calls.append(("join_entity", caller, given))
        return self._all_entities()

    def _all_entities(self) -> EntityList:
        return EntityList(
            namespace="default",
            entities=[
                EntityView(entity_id=ids.entity_id("default", name), name=name, type=kind, mentions=1)
                for name, kind in self.entities.items()
            ],
        )

    @wraps(Memory.forget)
    async def forget(self, caller: Caller, **given: Any) -> ForgetView:
        self.calls.append(("forget", caller, given))
        keys = {ids.document_id("default", key) for key in given.get("keys", ())}
        going = [
            one
            for one in self.texts
            if one in {*given.get("document_ids", ()), *keys} or given.get("whole_namespace")
        ]
        if not going:
            raise NotFound("none of these documents is there", next_step="list_memories shows what is there")
        first = [ForgottenDocument(document_id=one, key="key", title=self.texts[one][0]) for one in going]
        if given.get("confirm"):
            for one in going:
                del self.texts[one]
        return ForgetView(
            namespace="default",
            kind="documents",
            forgotten=given.get("confirm", False),
            removed=given.get("confirm", False),
            erased_by=NOON,
            documents=len(going),
            versions=len(going),
            passages=len(going),
            first_documents=first,
            entities=1,
            first_entities=["Ada"],
            entities_shared=1,
            first_entities_shared=["ACME"],
            mentioned_in=first,
            mentioning=len(first),
            archives=[ArchiveView(kind="backup", name="monday.tar", made_at=NOON, documents=3)],
        )

    @wraps(Memory.get_document)
    async def get_document(self, caller: Caller, **given: Any) -> DocumentView:
        passages = {ids.chunk_id(document, 0): document for document in self.texts}
        document = given.get("document_id") or passages.get(given["chunk_id"])
        if document is None or document not in self.texts:
            raise NotFound("no document has this id", next_step="search or list_memories return ids")
        start, length = given.get("start", 0), given.get("length", 8000)
        _, text = self.texts[document]
        part = text[start : start + length]
        end = start + len(part)
        return DocumentView(
            document_id=document,
            namespace="default",
            key="key",
            source=self._source(document),
            text=part,
            start=start,
            end=end,
            length=len(text),
            next_start=end if end < len(text) else None,
            passage_start=0,
            passage_end=4,
        )

    @wraps(Memory.list_memories)
    async def list_memories(self, caller: Caller, **given: Any) -> MemoryList:
        items = [
            MemoryItem(
                document_id=document,
                key=title,
                title=title,
                source=self._source(document),
                chunks=1,
                excerpt=text,
            )
            for document, (title, text) in self.texts.items()
        ]
        return MemoryList(namespace="default", items=items[: given["limit"]], total=len(items))

    async def get_stats(self, caller: Caller, *, namespace: str | None = None) -> StatsView:
        if namespace == "no/such":
            raise InputError(
                "a namespace is 1 to 64 letters, digits, - and _",
                code=Code.INVALID_NAMESPACE,
                next_step="use a name like work",
            )
        return StatsView(
            namespace="default",
            namespaces=["default"],
            documents=len(self.texts),
            versions=len(self.texts),
            chunks=len(self.texts),
            entities=len(self.entities),
            facts=0,
            ingestions={"ready": len(self.ingestions)},
            revision=1,
            stores=[
                StoreHealth(name="record", state="ok"),
                StoreHealth(name="vectors", state="down", detail="why"),
            ],
            degraded=["vectors: search is by words only"],
            embedder="none",
            version="0",
        )

    def _source(self, document: UUID) -> Source:
        return Source(
            document_id=document,
            version=1,
            title=self.texts[document][0],
            uri="",
            source_type=SourceType.INLINE,
            media_type="text/plain",
            document_time=NOON,
            ingested_at=NOON,
        )
