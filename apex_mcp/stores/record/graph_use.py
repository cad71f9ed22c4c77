"""Whether a process that shares the record writes its graph to a server: then one that does not must not end that graph."""

import asyncio
from typing import LiteralString

from apex_mcp.errors import Unavailable
from apex_mcp.stores.record.graph_changes import GraphQueue
from apex_mcp.stores.record.session_lock import session_lock

_IN_USE: LiteralString = "apex-mcp graph in use"
_RETRY_SECONDS = 1.0


async def use_graph(conninfo: str) -> None:
    """Let the others know, until cancelled, that this process writes the graph."""
    while True:
        try:
            async with session_lock(conninfo, _IN_USE, shared=True, wait_seconds=float("inf")) as lock:
                await lock.lost()
        except Unavailable:
            await asyncio.sleep(_RETRY_SECONDS)


async def end_unused_graph(conninfo: str, queue: GraphQueue) -> bool:
    """End the graph if no process writes it: it would be told less and less, and its queue would only grow.

    One that was ended too early, before whoever writes it has started, is written anew.

    Raises:
        Unavailable: the database does not answer.
    """
    async with session_lock(conninfo, _IN_USE) as alone:
        if alone:
            await queue.end()
        return bool(alone)
