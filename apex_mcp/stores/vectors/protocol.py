"""What a vector index offers: candidates by words and by meaning, for one namespace at a time."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement

# Deeper than this no search looks: `offset + limit` is cut to it.
MAX_DEPTH = 10_000


class VectorIndex(Protocol):
    """An index of chunks, holding nothing that the record does not.

    - Writes are visible to the next call on the same index. They are durable only after `flush`.
    - An upsert of an id that exists replaces it, whole: its vector and its retirement too. Deleting or retiring what is not
      there is no error.
    - A filter's scope is its namespace and its time: the points that are current, or for a past revision those and the
      ones that were retired but current then (what came later than that revision is dropped when candidates are hydrated).
      No point outside the scope is ever returned, or weighs anything in a score. The filter's other fields choose among
      the scope's points and leave their scores as they are.
    - Candidates come best first; equal scores in the order of their ids. A limit or offset below what makes sense finds
      nothing or starts at the top; nothing is found beyond `MAX_DEPTH`.
    """

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Add or replace points. Any number; the implementation batches."""
        ...

    async def retire(self, retirements: Sequence[Retirement]) -> None:
        """Mark versions' points as current in their range of revisions only."""
        ...

    async def delete_versions(self, version_ids: Sequence[UUID]) -> None:
        """Remove every point of these versions."""
        ...

    async def delete_points(self, point_ids: Sequence[PointId]) -> None:
        """Remove these points, whatever they are."""
        ...

    async def search_words(
        self, query: str, where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by BM25, its statistics taken from exactly the points that the filter's scope holds."""
        ...

    async def search_dense(
        self, vector: Sequence[float], where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by cosine; chunks without a vector are not among them."""
        ...

    async def count(self, *, namespace: str | None = None, version_id: UUID | None = None) -> int:
        """Number of points, retired ones included."""
        ...

    async def version_ids(self) -> set[UUID]:
        """Every version that has a point; for comparing with the record."""
        ...

    def inventory(
        self, version_ids: Sequence[UUID] | None = None
    ) -> AsyncIterator[Mapping[Holding | ForeignPoint, int]]:
        """How many points are held how, of every version or of these: in pages, in several of which a version may be.

        What is written meanwhile may be counted or not. Points that are as no version's are come one by one.
        """
        ...

    def position(self) -> str | None:
        """How far the index is durable, as the record put it; None when it must be rebuilt from the record."""
        ...

    async def flush(self, position: str | None = None) -> None:
        """Make everything written so far durable, then note `position` (None leaves the one that stands)."""
        ...

    async def close(self) -> None:
        """Flush and release the files."""
        ...
