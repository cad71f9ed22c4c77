"""The index on a server that was not there when it was asked for: every call says so, until another takes its place."""

import copy
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NoReturn
from uuid import UUID

from apex_mcp.errors import Unavailable
from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement


class AbsentIndex:
    """A `KeptIndex` that has nothing and takes nothing.

    Args:
        error: why.
    """

    dimension: int | None = None
    made: str | None = None
    generation = 0

    def __init__(self, error: Unavailable) -> None:
        self._error = error

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Raises Unavailable."""
        self._fail()

    async def retire(self, retirements: Sequence[Retirement]) -> None:
        """Raises Unavailable."""
        self._fail()

    async def delete_versions(self, version_ids: Sequence[UUID]) -> None:
        """Raises Unavailable."""
        self._fail()

    async def delete_points(self, point_ids: Sequence[PointId]) -> None:
        """Raises Unavailable."""
        self._fail()

    async def search_words(
        self, query: str, where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Raises Unavailable."""
        self._fail()

    async def search_dense(
        self, vector: Sequence[float], where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Raises Unavailable."""
        self._fail()

    async def count(self, *, namespace: str | None = None, version_id: UUID | None = None) -> int:
        """Raises Unavailable."""
        self._fail()

    async def version_ids(self) -> set[UUID]:
        """Raises Unavailable."""
        self._fail()

    def inventory(
        self, version_ids: Sequence[UUID] | None = None
    ) -> AsyncIterator[Mapping[Holding | ForeignPoint, int]]:
        """Raises Unavailable."""
        self._fail()

    def position(self) -> str | None:
        """None."""
        return None

    async def ready(self) -> int:
        """Raises Unavailable."""
        self._fail()

    async def damage(self) -> str | None:
        """Raises Unavailable."""
        self._fail()

    async def enable_dense(self, embedder: str, dimension: int) -> None:
        """Raises Unavailable."""
        self._fail()

    async def flush(self, position: str | None = None, *, generation: int = 0) -> None:
        """Raises Unavailable."""
        self._fail()

    def filled(self, start: str) -> UUID | None:
        """None."""
        return None

    async def note_filled(self, version_id: UUID, *, start: str, generation: int) -> None:
        """Raises Unavailable."""
        self._fail()

    async def maintain(self) -> bool:
        """There is nothing to build."""
        return False

    async def close(self) -> None:
        """There is nothing to release."""

    async def abandon(self) -> None:
        """There is nothing to release."""

    def _fail(self) -> NoReturn:
        raise copy.copy(self._error)
