"""Tools that show what is there: a document's text, lists, counts."""

from typing import Annotated, Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import Field

from apex_mcp.models import SourceType
from apex_mcp.server import rendering
from apex_mcp.server.arguments import Id, Namespace, Text
from apex_mcp.server.desk import Desk
from apex_mcp.views import DocumentView, MemoryList, StatsView


class ReadingTools:
    """Each method is a tool; its docstring is what a model reads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def get_document(
        self,
        ctx: Context[Any, Any],
        document_id: Annotated[Id, Field(description="From search or list_memories.")] = None,
        chunk_id: Annotated[Id, Field(description="Show this passage of a search result in place.")] = None,
        key: Annotated[
            Text, Field(description="The document's key instead of an id, e.g. 'minutes/2026-03-01'.")
        ] = "",
        version: Annotated[
            int | None, Field(ge=1, description="An earlier version; else the current one.")
        ] = None,
        page: Annotated[int | None, Field(ge=1, description="Start at this page.")] = None,
        start: Annotated[int, Field(ge=0, description="Start at this character; `next_start` goes on.")] = 0,
        length: Annotated[int, Field(ge=1, le=50_000, description="How many characters.")] = 8000,
        namespace: Namespace = "",
    ) -> Annotated[CallToolResult, DocumentView]:
        """Read a stored document's text, or the surroundings of one passage.

        Use it when a passage from search is not enough. Give one of document_id, chunk_id and key.
        Returns the text from there on with its place, where to go on, and the document's versions.
        """
        return await self._desk.read(
            ctx,
            lambda memory, caller: memory.get_document(
                caller,
                document_id=document_id,
                key=key or None,
                chunk_id=chunk_id,
                version=version,
                start=start,
                length=length,
                page=page,
                namespace=namespace or None,
            ),
            rendering.document,
        )

    async def list_memories(
        self,
        ctx: Context[Any, Any],
        limit: Annotated[int, Field(ge=1, le=100, description="How many.")] = 20,
        cursor: Annotated[Text, Field(description="`next_cursor` of the page before.")] = "",
        source_types: Annotated[
            list[SourceType] | None, Field(description="Only from these sources.")
        ] = None,
        namespace: Namespace = "",
    ) -> Annotated[CallToolResult, MemoryList]:
        """List what is stored, newest first, in pages.

        Use it to see what there is; to answer a question use search.
        Returns title, source, time and the beginning of each document.
        """
        return await self._desk.read(
            ctx,
            lambda memory, caller: memory.list_memories(
                caller,
                namespace=namespace or None,
                limit=limit,
                cursor=cursor or None,
                source_types=[str(source_type) for source_type in source_types or ()],
            ),
            rendering.memories,
        )

    async def get_stats(
        self, ctx: Context[Any, Any], namespace: Namespace = ""
    ) -> Annotated[CallToolResult, StatsView]:
        """Tell how much is stored, the names of all namespaces, and whether every store is well.

        Use it when answers are missing or say `degraded`, or when the user asks about the memory itself.
        """
        return await self._desk.read(
            ctx, lambda memory, caller: memory.get_stats(caller, namespace=namespace or None), rendering.stats
        )
