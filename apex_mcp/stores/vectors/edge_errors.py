"""The error of an index that does not work, on both sides of the pipe."""

from apex_mcp.errors import Code, Unavailable

DIED = "died"
"""The cause where the engine's process ended over a command."""
DAMAGED = "damaged"
"""The cause where the files are not those that the engine wrote; its process ends, and the next one starts anew."""


def unavailable(cause: str) -> Unavailable:
    """What callers get when the engine, its process or the disk fails; `cause` is a word without content."""
    return Unavailable(
        "the vector index does not work now",
        code=Code.VECTORS_UNAVAILABLE,
        unchanged="the record is complete without it",
        next_step="try again; `apex-mcp doctor` looks for the reason (a full disk is the most frequent one)",
        details={"cause": cause},
    )
