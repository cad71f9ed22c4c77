"""The error of an index that does not work, on both sides of the pipe."""

from apex_mcp.errors import Code, Unavailable

DIED = "died"
"""The cause where the engine's process ended over a command."""
DAMAGED = "damaged"
"""The cause where the files are not those that the engine wrote; its process ends, and the next one starts anew."""


_DOCTOR = "try again; `apex-mcp doctor` looks for the reason (a full disk is the most frequent one)"


def unavailable(cause: str, next_step: str = _DOCTOR) -> Unavailable:
    """What callers get when the engine, its process or the disk fails; `cause` is a word without content."""
    return Unavailable(
        "the vector index does not work now",
        code=Code.VECTORS_UNAVAILABLE,
        unchanged="the record is complete without it",
        next_step=next_step,
        details={"cause": cause},
    )


def engine_failed(cause: str) -> Unavailable:
    """What callers get when a command fails within the engine, where its files may be damaged."""
    return unavailable(
        cause,
        f"{_DOCTOR}; where it finds none, `apex-mcp reindex vectors` makes the index anew from the record",
    )
