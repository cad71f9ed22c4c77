"""What the pump and the server both know of MCP calls; the pump starts in milliseconds, so nothing is imported here."""

REQUEST_ID_META = "apex-mcp/request-id"
"""Key in a call's `_meta` under which the pump puts its own id of the request: the same when it sends the call again."""

READ_ONLY_TOOLS = frozenset(
    {"get_document", "get_entities", "get_ingestion", "get_stats", "list_memories", "search"}
)
"""Tools that may simply be called again after the daemon was replaced."""
