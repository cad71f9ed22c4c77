"""The client's roots: asked when a path needs them, kept per connection until it says that they changed."""

import logging
from pathlib import Path
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, ListRoots
from mcp.shared.exceptions import MCPError
from mcp_types import ListRootsRequest, ListRootsResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from apex_mcp.ingestion.sources.roots import path_from_uri, usable_root
from apex_mcp.server.gateway import current_connection

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 5.0  # a client that does not answer has no roots

ClientRoots = ListRootsResult | tuple[Path, ...]


async def ask_client_roots(ctx: Context[Any, Any], source: str) -> ClientRoots | ListRoots:
    """Resolver of a tool's `roots`, if it has a path for `source`."""
    if not source or "://" in source.removeprefix("file://"):
        return ()
    return await ask_for_roots(ctx)


async def ask_for_roots(ctx: Context[Any, Any]) -> ClientRoots | ListRoots:
    """Resolver of a tool's `roots`: nothing to ask of a client that has no roots or is elsewhere."""
    capabilities = ctx.client_capabilities
    if current_connection.get().caller.remote or capabilities is None or capabilities.roots is None:
        return ()
    if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
        # Carried by the call itself: the client repeats it with the answer.
        return ListRoots()
    connection = current_connection.get()
    if connection.client_roots is None:
        connection.client_roots = await _list_roots(ctx)
    return connection.client_roots


async def _list_roots(ctx: Context[Any, Any]) -> tuple[Path, ...]:
    try:
        answer = await ctx.session.send_request(
            ListRootsRequest(), ListRootsResult, request_read_timeout_seconds=_ANSWER_SECONDS
        )
    except (MCPError, ValidationError) as error:
        logger.info("the client did not name its roots: %s", type(error).__name__)
        return ()
    return usable_roots(answer)


def usable_roots(answer: ClientRoots) -> tuple[Path, ...]:
    """The folders of an answer; what is no local folder, or a whole system, is left out."""
    if isinstance(answer, tuple):
        return answer
    paths = (path_from_uri(str(root.uri)) for root in answer.roots)
    return tuple(dict.fromkeys(path for path in paths if path is not None and usable_root(path)))


async def forget_changed_roots(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: the next path asks again after `roots/list_changed`."""
    if ctx.method == "notifications/roots/list_changed":
        current_connection.get().client_roots = None
    return await call_next(ctx)
