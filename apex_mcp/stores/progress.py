"""News of ingestions, for whoever waits. Losing one costs a waiter time only: it looks into the record anyway, now and then."""

import asyncio
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

# How long a waiter waits for news before it looks by itself: where news come, and where those of other processes do not.
LOOK_SECONDS = 10.0
SHARED_LOOK_SECONDS = 0.5


class Progress(Protocol):
    """Wakes those who wait for an ingestion."""

    @property
    def look_seconds(self) -> float:
        """How long to wait for news before looking."""
        ...

    def publish(self, ingestion_ids: Iterable[UUID]) -> None:
        """Something about these ingestions changed, and the record already says so."""
        ...

    @contextmanager
    def subscribe(self, ingestion_id: UUID) -> Generator[asyncio.Event]:
        """An event that is set at each news; the waiter clears it before it looks."""
        ...


class ProcessProgress:
    """News within one process.

    Args:
        alone: whether no other process works on the record.
    """

    def __init__(self, *, alone: bool = True) -> None:
        self._look_seconds = LOOK_SECONDS if alone else SHARED_LOOK_SECONDS
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)

    @property
    def look_seconds(self) -> float:
        """See `Progress`."""
        return self._look_seconds

    def awaited(self) -> list[UUID]:
        """The ingestions that somebody waits for."""
        return list(self._waiting)

    def publish(self, ingestion_ids: Iterable[UUID]) -> None:
        """See `Progress`."""
        for ingestion_id in ingestion_ids:
            for event in self._waiting.get(ingestion_id, ()):
                event.set()

    @contextmanager
    def subscribe(self, ingestion_id: UUID) -> Generator[asyncio.Event]:
        """See `Progress`."""
        event = asyncio.Event()
        self._waiting[ingestion_id].add(event)
        try:
            yield event
        finally:
            self._waiting[ingestion_id].discard(event)
            if not self._waiting[ingestion_id]:
                del self._waiting[ingestion_id]
