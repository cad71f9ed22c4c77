"""What every tool does around its one call: find the caller, wait for the stores, shape the answer."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, TextContent

from apex_mcp.caller import Caller
from apex_mcp.runtime.wire import REQUEST_ID_META
from apex_mcp.server.gateway import Gateway, current_connection, take_notices
from apex_mcp.views import View

if TYPE_CHECKING:
    from apex_mcp.memory import Memory

ViewT = TypeVar("ViewT", bound=View)


class Desk:
    """Where requests come in.

    Args:
        gateway: who has the stores.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def memory(self) -> "Memory":
        """Wait for the stores.

        Raises:
            Unavailable: they are not up.
        """
        return await self._gateway.memory()

    def caller(self, ctx: Context[Any, Any], client_roots: tuple[Path, ...] = ()) -> Caller:
        """The connection's caller, with the client's own roots and the pump's id of this request."""
        caller = current_connection.get().caller
        if caller.remote:
            client_roots = ()
        meta = ctx.request_context.meta or {}
        request_id = meta.get(REQUEST_ID_META)
        return replace(
            caller,
            roots=tuple(dict.fromkeys((*client_roots, *caller.roots))),
            base=client_roots[0] if client_roots else caller.base,
            request_id=request_id if isinstance(request_id, str) else None,
        )

    async def read(
        self,
        ctx: Context[Any, Any],
        ask: "Callable[[Memory, Caller], Awaitable[ViewT]]",
        render: Callable[[ViewT], str],
    ) -> CallToolResult:
        """Answer with one view."""
        return answer(view := await ask(await self.memory(), self.caller(ctx)), render(view))


def answer(view: View, text: str) -> CallToolResult:
    """A view as data, and as a short text for the model; the connection's notices come along once."""
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join([*take_notices(), text]))],
        structured_content=view.model_dump(mode="json", exclude_none=True),
    )
