"""What a comparison found."""

from collections.abc import Collection
from dataclasses import dataclass, field

EXAMPLES = 5

RECORD = "record"
VECTORS = "vectors"
GRAPH = "graph"
STAGING = "staging"
CACHE = "cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One comparison and its outcome.

    Attributes:
        store: what was compared with the record: itself, or one of its indexes.
        what: what should hold.
        compared: of how many.
        differs: how many did not fit.
        left: how many still do not, after what was mended.
        examples: ids of a few that did not.
        note: why nothing was compared, or what helps.
    """

    store: str
    what: str
    compared: int = 0
    differs: int = 0
    left: int = 0
    examples: tuple[str, ...] = field(default=())
    note: str = ""


def finding(
    store: str, what: str, *, compared: int, before: Collection[object], after: Collection[object]
) -> Finding:
    """From what differed before and after it was mended."""
    return Finding(
        store=store,
        what=what,
        compared=compared,
        differs=len(before),
        left=len(after),
        examples=tuple(sorted(map(str, before))[:EXAMPLES]),
    )
