"""What a vector index offers: candidates by words and by meaning, for one namespace at a time."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from apex_mcp.models import Candidate, IndexFilter, IndexPoint


class VectorIndex(Protocol):
    """An index of chunks, holding nothing that the record does not.

    - Writes are visible to the next call on the same index. They are durable only after `flush`.
    - An upsert of an id that exists replaces it, whole. Deleting what is not there is no error.
    - No point of one namespace is ever returned, or weighs anything in a score, for another; the same holds for retired
      points, except where a filter asks for a past revision.
    - Candidates come best first; equal scores in the order of their ids.
    """

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Add or replace points. Any number; the implementation batches."""
        ...

    async def retire(self, version_id: UUID, *, revision_from: int, revision_to: int) -> None:
        """Mark a version's points as current from `revision_from` until before `revision_to` only."""
        ...

    async def delete_versions(self, version_ids: Sequence[UUID]) -> None:
        """Remove every point of these versions."""
        ...

    async def search_words(self, query: str, where: IndexFilter, *, limit: int, offset: int = 0) -> list[Candidate]:
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

    async def flush(self) -> None:
        """Make everything written so far durable."""
        ...

    async def close(self) -> None:
        """Flush and release the files."""
        ...
