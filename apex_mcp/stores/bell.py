"""Rings when something was put into the outbox, so that dispatchers need not look all the time."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Final, Literal

from apex_mcp.models import Lane

ENRICHMENT: Final = "enrichment"
REMOVAL: Final = "removal"
# A lane, and whether for bulk; or what a model is to read; or what was forgotten.
Kind = tuple[Lane, bool] | Literal["enrichment", "removal"]


class Bell:
    """Wakes listeners of this process."""

    def __init__(self) -> None:
        self._events: defaultdict[Kind, set[asyncio.Event]] = defaultdict(set)

    def listener(self, kind: Kind) -> asyncio.Event:
        """An event that each ring for this kind of work sets; its owner clears it before it looks into the outbox."""
        event = asyncio.Event()
        self._events[kind].add(event)
        return event

    def ring(self, kinds: Iterable[Kind] | None = None) -> None:
        """Work of these kinds waits; None: of any kind."""
        for kind in self._events if kinds is None else kinds:
            for event in self._events.get(kind, ()):
                event.set()
