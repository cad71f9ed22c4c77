"""The tool that makes the memory forget."""

from typing import Annotated, Any
from uuid import UUID

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult
from pydantic import Field

from apex_mcp.server import rendering
from apex_mcp.server.arguments import Id, Namespace, Text
from apex_mcp.server.desk import Desk
from apex_mcp.times import moment
from apex_mcp.views import ForgetView


class ForgettingTools:
    """Each method is a tool; its docstring is what a model reads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def forget(
        self,
        ctx: Context[Any, Any],
        document_ids: Annotated[list[UUID] | None, Field(description="These documents.")] = None,
        keys: Annotated[list[str] | None, Field(description="Documents by their keys.")] = None,
        entity_id: Annotated[
            Id, Field(description="This entity, from get_entities; documents that mention it stay.")
        ] = None,
        after: Annotated[Text, Field(description="What was stored from this time on, e.g. 2026-01-01.")] = "",
        before: Annotated[Text, Field(description="What was stored before this time.")] = "",
        whole_namespace: Annotated[bool, Field(description="All that is in `namespace`.")] = False,
        namespace: Namespace = "",
        confirm: Annotated[bool, Field(description="False only tells what would go.")] = False,
    ) -> Annotated[CallToolResult, ForgetView]:
        """Forget for good: documents and memories, an entity, a time, or a whole memory.

        Use it only when the user asks for it. Call it without `confirm` first, show what would go, and
        confirm only what the user agreed to. Every version goes; what other documents name, too, stays.
        Returns what goes and what stays. It can't be undone.
        """
        since, until = moment("after", after), moment("before", before)
        return await self._desk.read(
            ctx,
            lambda memory, caller: memory.forget(
                caller,
                document_ids=document_ids or (),
                keys=keys or (),
                entity_id=entity_id,
                after=since,
                before=until,
                whole_namespace=whole_namespace,
                namespace=namespace or None,
                confirm=confirm,
            ),
            rendering.forgetting,
        )
