"""Tools that put something into the memory, and follow it until it is searchable."""

from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import anyio
from mcp.server.mcpserver import Context, Resolve
from mcp_types import CallToolResult
from pydantic import Field

from apex_mcp.models import IngestionState
from apex_mcp.server import rendering
from apex_mcp.server.arguments import (
    MAX_WAIT_SECONDS,
    DocumentTime,
    Entities,
    Facts,
    Id,
    IdempotencyKey,
    Key,
    Metadata,
    Namespace,
    Text,
    Title,
    entity_inputs,
    fact_inputs,
)
from apex_mcp.server.desk import Desk, answer
from apex_mcp.server.roots import ClientRoots, ask_client_roots, ask_for_roots, usable_roots
from apex_mcp.times import moment
from apex_mcp.views import IngestionList, IngestionView

WaitSeconds = Annotated[
    float, Field(ge=0, le=MAX_WAIT_SECONDS, description="Wait this long for it to become searchable.")
]
IngestionId = Annotated[UUID, Field(description="The id that ingest_document or add_memory returned.")]


class IngestingTools:
    """Each method is a tool; its docstring is what a model reads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ingest_document(
        self,
        ctx: Context[Any, Any],
        roots: Annotated[ClientRoots, Resolve(ask_client_roots)],
        source: Annotated[
            Text,
            Field(description="File to read, e.g. 'reports/q3.pdf' or '/home/ada/q3.pdf'; or give `text`."),
        ] = "",
        text: Annotated[Text, Field(description="The content itself, instead of `source`.")] = "",
        title: Title = "",
        key: Key = "",
        namespace: Namespace = "",
        media_type: Annotated[
            Text, Field(description="Of `text`, e.g. text/plain or text/html; Markdown if not given.")
        ] = "",
        document_time: DocumentTime = "",
        metadata: Metadata = None,
        entities: Entities = None,
        facts: Facts = None,
        idempotency_key: IdempotencyKey = "",
        wait_seconds: WaitSeconds = 20,
    ) -> Annotated[CallToolResult, IngestionView]:
        """Store a document (a file, or a long text) so that search finds its passages.

        Use it for files below the allowed folders (PDF, Word, PowerPoint, HTML, Markdown, text, e-mail, CSV,
        Excel, EPUB, JSON) and for long texts; notes go to add_memory. Same source or key: a new version.
        Returns the ingestion's id and state: `ready` is searchable, `running` goes on: ask get_ingestion.
        """
        caller = self._desk.caller(ctx, usable_roots(roots))
        when = moment("document_time", document_time)
        given_entities, given_facts = entity_inputs(entities), fact_inputs(facts)
        memory = await self._desk.memory()
        view = await _uninterrupted(
            memory.ingest_document(
                caller,
                source=source or None,
                text=text or None,
                key=key or None,
                title=title or None,
                namespace=namespace or None,
                media_type=media_type or None,
                document_time=when,
                metadata=metadata,
                entities=given_entities,
                facts=given_facts,
                idempotency_key=idempotency_key or None,
            )
        )
        return await self._follow(ctx, view, wait_seconds, roots=usable_roots(roots))

    async def add_memory(
        self,
        ctx: Context[Any, Any],
        text: Annotated[
            Text,
            Field(description="What to remember, in full sentences: names and dates, not 'he' or 'today'."),
        ],
        title: Title = "",
        key: Key = "",
        namespace: Namespace = "",
        document_time: DocumentTime = "",
        metadata: Metadata = None,
        entities: Entities = None,
        facts: Facts = None,
        idempotency_key: IdempotencyKey = "",
        wait_seconds: WaitSeconds = 5,
    ) -> Annotated[CallToolResult, IngestionView]:
        """Remember a short text: a fact, a preference, a decision, a summary.

        Use it when the user says something worth keeping or asks to remember it; one topic a call.
        For what will change give a `key`: the same key again replaces it, and the past stays readable.
        Returns the ingestion's id and state; `ready`, as a rule at once, means that search finds it now.
        """
        caller = self._desk.caller(ctx)
        when = moment("document_time", document_time)
        given_entities, given_facts = entity_inputs(entities), fact_inputs(facts)
        memory = await self._desk.memory()
        view = await _uninterrupted(
            memory.add_memory(
                caller,
                text=text,
                title=title or None,
                key=key or None,
                namespace=namespace or None,
                document_time=when,
                metadata=metadata,
                entities=given_entities,
                facts=given_facts,
                idempotency_key=idempotency_key or None,
            )
        )
        return await self._follow(ctx, view, wait_seconds)

    async def _follow(
        self,
        ctx: Context[Any, Any],
        view: IngestionView,
        wait_seconds: float,
        *,
        roots: tuple[Path, ...] = (),
    ) -> CallToolResult:
        """Watch until it is over or the time is, and name each step to the client."""
        if not view.finished and wait_seconds > 0:
            memory, caller = await self._desk.memory(), self._desk.caller(ctx, roots)
            progress = _Progress(ctx)
            async for view in memory.watch_ingestion(  # noqa: B020  (the latest view is what is answered)
                caller,
                ingestion_id=view.ingestion_id,
                wait_seconds=wait_seconds,
                namespace=view.namespace,
            ):
                await progress.tell(view)
        return answer(view, rendering.ingestion(view))

    async def get_ingestion(
        self,
        ctx: Context[Any, Any],
        ingestion_id: Annotated[Id, Field(description="One ingestion; without it, the recent ones.")] = None,
        state: Annotated[IngestionState | None, Field(description="Only recent ones in this state.")] = None,
        limit: Annotated[int, Field(ge=1, le=100, description="How many recent ones.")] = 10,
        cursor: Annotated[Text, Field(description="`next_cursor` of the page before.")] = "",
        namespace: Namespace = "",
    ) -> Annotated[CallToolResult, IngestionList]:
        """Tell how far an ingestion is, or list the recent ones.

        Use it after ingest_document answered `running`, or to see what failed and why.
        Returns state, step, counts and, for a failure, its reason and what to do.
        """
        if ingestion_id is None:
            return await self._desk.read(
                ctx,
                lambda memory, caller: memory.list_ingestions(
                    caller, namespace=namespace or None, state=state, limit=limit, cursor=cursor or None
                ),
                rendering.ingestions,
            )
        view = await (await self._desk.memory()).get_ingestion(
            self._desk.caller(ctx), ingestion_id=ingestion_id, namespace=namespace or None
        )
        return answer(IngestionList(ingestions=[view]), rendering.ingestion(view))

    async def cancel_ingestion(
        self, ctx: Context[Any, Any], ingestion_id: IngestionId, namespace: Namespace = ""
    ) -> Annotated[CallToolResult, IngestionView]:
        """Stop an ingestion that is not finished; nothing of it is kept, and earlier versions stay.

        Use it when the user no longer wants it. Returns its state; a finished one can't be cancelled.
        """
        return await self._desk.read(
            ctx,
            lambda memory, caller: memory.cancel_ingestion(
                caller, ingestion_id=ingestion_id, namespace=namespace or None
            ),
            rendering.ingestion,
        )

    async def retry_ingestion(
        self,
        ctx: Context[Any, Any],
        roots: Annotated[ClientRoots, Resolve(ask_for_roots)],
        ingestion_id: IngestionId,
        namespace: Namespace = "",
    ) -> Annotated[CallToolResult, IngestionView]:
        """Try a failed or cancelled ingestion again, with its file as it is now.

        Use it after the reason that get_ingestion names is gone. Returns the ingestion, running again.
        """
        memory, caller = await self._desk.memory(), self._desk.caller(ctx, usable_roots(roots))
        view = await memory.retry_ingestion(caller, ingestion_id=ingestion_id, namespace=namespace or None)
        return answer(view, rendering.ingestion(view))


async def _uninterrupted(request: Awaitable[IngestionView]) -> IngestionView:
    """A client that gives up while its request is being accepted ends its waiting, not the request."""
    accepted: list[IngestionView] = []
    with anyio.CancelScope(shield=True):
        accepted.append(await request)
    return accepted[0]


class _Progress:
    """Progress notifications of one call; the protocol wants each one larger than the last."""

    def __init__(self, ctx: Context[Any, Any]) -> None:
        self._ctx = ctx
        self._last = -1.0

    async def tell(self, view: IngestionView) -> None:
        progress = float(view.steps_done)
        if progress <= self._last:
            # The same step goes on: come nearer to the next one without reaching it.
            progress = self._last + (int(self._last) + 1 - self._last) / 2
        self._last = progress
        what = rendering.called(view)
        waiting = f", waiting: {view.waiting_for}" if view.waiting_for else ""
        await self._ctx.report_progress(progress, view.steps_total, f"{view.step}: {what}{waiting}")
