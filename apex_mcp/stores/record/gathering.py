"""Many callers' look-ups as one query: who asks while a query runs goes with the next."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


class Gathered(Generic[T]):
    """Look-ups by id, gathered. An answer is never older than its question.

    Args:
        look_up: one query for some ids; leaves out those that are unknown.
    """

    def __init__(self, look_up: Callable[[list[UUID]], Awaitable[Mapping[UUID, T]]]) -> None:
        self._look_up = look_up
        self._one_at_a_time = asyncio.Lock()
        self._asked: set[UUID] = set()
        self._next: asyncio.Task[Mapping[UUID, T]] | None = None

    async def get(self, id_: UUID) -> T | None:
        """What is found under this id; raises what the query raises."""
        self._asked.add(id_)
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        # One who gives up does not take the others' answer with him.
        return (await asyncio.shield(self._next)).get(id_)

    async def _run(self) -> Mapping[UUID, T]:
        async with self._one_at_a_time:
            # From here on a question is for the next query: this one may not see what it asks about.
            asked, self._asked, self._next = list(self._asked), set(), None
            return await self._look_up(asked)
