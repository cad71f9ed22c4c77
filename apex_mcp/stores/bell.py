"""Rings when something was put into the outbox, so that dispatchers need not look all the time."""

import asyncio


class Bell:
    """Wakes every listener of this process."""

    def __init__(self) -> None:
        self._events: set[asyncio.Event] = set()

    def listener(self) -> asyncio.Event:
        """An event that each ring sets; its owner clears it before it looks into the outbox."""
        event = asyncio.Event()
        self._events.add(event)
        return event

    def ring(self) -> None:
        """Something waits."""
        for event in self._events:
            event.set()
