"""The MCP face: thin tools and resources over `Memory`."""

from typing import TYPE_CHECKING

from apex_mcp.server.gateway import Connection, Gateway, current_connection

if TYPE_CHECKING:
    from apex_mcp.server.build import ApexServer

__all__ = ["Connection", "Gateway", "build_server", "current_connection"]


def build_server(gateway: Gateway) -> "ApexServer":
    """Make the MCP server; its `lowlevel` is what `serve_dual_era_loop` serves each connection with.

    Args:
        gateway: who has the stores. Each connection's task sets `current_connection` before it is served.
    """
    # The SDK takes over half a second to load; whoever only needs the gateway's names does not pay for it.
    from apex_mcp.server.build import ApexServer

    return ApexServer(gateway)
