"""Tools that answer questions: passages, and entities with their facts."""

from typing import Annotated, Any
from uuid import UUID

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import Field

from apex_mcp.models import SourceType
from apex_mcp.server import rendering
from apex_mcp.server.arguments import Id, Namespace, Object, Text
from apex_mcp.server.desk import Desk
from apex_mcp.times import moment
from apex_mcp.views import EntityList, SearchView

AsOf = Annotated[
    Text,
    Field(
        description="What was true then, e.g. 2025-12-31. ISO 8601; a date alone means the end of that day."
    ),
]
KnownAt = Annotated[
    Text, Field(description="What the memory knew then: ignores all that was stored later. As `as_of`.")
]


class SearchingTools:
    """Each method is a tool; its docstring is what a model reads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def search(
        self,
        ctx: Context[Any, Any],
        query: Annotated[
            Text,
            Field(
                min_length=1, description="A question or key words, e.g. 'who signed the Apollo contract'."
            ),
        ],
        limit: Annotated[int, Field(ge=1, le=50, description="How many passages.")] = 8,
        namespace: Namespace = "",
        as_of: AsOf = "",
        known_at: KnownAt = "",
        after: Annotated[Text, Field(description="Only content from this time on, e.g. 2026-01-01.")] = "",
        before: Annotated[
            Text, Field(description="Only content from before this time, e.g. 2026-04-01.")
        ] = "",
        source_types: Annotated[
            list[SourceType] | None, Field(description="Only from these sources.")
        ] = None,
        media_types: Annotated[list[str] | None, Field(description="e.g. ['application/pdf'].")] = None,
        document_ids: Annotated[list[UUID] | None, Field(description="Only within these documents.")] = None,
        metadata: Annotated[
            Object,
            Field(description='Fields that must match, e.g. {"project": "apollo", "year": [2025, 2026]}.'),
        ] = None,
        entity: Annotated[
            Text, Field(description="Only passages that name this entity, e.g. 'Ada Lovelace'.")
        ] = "",
    ) -> Annotated[CallToolResult, SearchView]:
        """Find passages that answer a question, in everything that was stored, by words and by meaning.

        Use it first for any question about the user's documents, notes or past.
        Returns passages, best first, each with source, page or heading and time: cite them.
        get_document with a chunk_id shows what is around one.
        """
        as_of_moment = moment("as_of", as_of, end_of_day=True)
        known_at_moment = moment("known_at", known_at, end_of_day=True)
        after_moment, before_moment = moment("after", after), moment("before", before)
        return await self._desk.read(
            ctx,
            lambda memory, caller: memory.search(
                caller,
                query=query,
                namespace=namespace or None,
                limit=limit,
                source_types=[str(source_type) for source_type in source_types or ()],
                media_types=media_types or (),
                document_ids=document_ids or (),
                after=after_moment,
                before=before_moment,
                metadata=metadata,
                entity=entity or None,
                as_of=as_of_moment,
                known_at=known_at_moment,
            ),
            rendering.search,
        )

    async def get_entities(
        self,
        ctx: Context[Any, Any],
        query: Annotated[
            Text,
            Field(description="A name, or a question with names, e.g. 'Ada'; without it the most mentioned."),
        ] = "",
        entity_id: Annotated[Id, Field(description="Exactly this one.")] = None,
        type: Annotated[Text, Field(description="e.g. person, organisation.")] = "",
        limit: Annotated[int, Field(ge=1, le=50, description="How many.")] = 10,
        hops: Annotated[int, Field(ge=0, le=3, description="Also what so many facts join to them.")] = 0,
        namespace: Namespace = "",
        as_of: AsOf = "",
        known_at: KnownAt = "",
    ) -> Annotated[CallToolResult, EntityList]:
        """Tell what is known of people, organisations and other named things, and since when.

        Use it for "who is", "what do we know of", "where did X work in 2024"; search finds what a text says.
        Returns entities with their facts (with the time each was true) and sources (until `as_of`; mentions count all).
        """
        as_of_moment = moment("as_of", as_of, end_of_day=True)
        known_at_moment = moment("known_at", known_at, end_of_day=True)
        return await self._desk.read(
            ctx,
            lambda memory, caller: memory.get_entities(
                caller,
                query=query or None,
                entity_id=entity_id,
                type=type or None,
                namespace=namespace or None,
                limit=limit,
                as_of=as_of_moment,
                known_at=known_at_moment,
                hops=hops,
            ),
            rendering.entities,
        )
