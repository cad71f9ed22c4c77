"""What a graph offers: which entities a name means, and what is near an entity. Ids only: what they are is read in the record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """An entity near those that were asked about.

    Attributes:
        hops: number of facts on the shortest way, from 1.
        fact_ids: facts of the last hop of such ways, all of them.
    """

    entity_id: UUID
    hops: int
    fact_ids: tuple[UUID, ...]


class Graph(Protocol):
    """Entities and facts of the record's newest state.

    - Ids are those under which linked entities are shown: of several that name one thing, the one that came first.
    - Nothing of another namespace is ever returned or passed through; nothing that is not visible now.
    - Reads of a past revision are the record's, not the graph's.
    - Order: names by how well they match, then by how often they are named, then by id; neighbours by hops, then by id.
    - Every call raises `Unavailable` (`graph_unavailable`) where the graph does not answer.
    """

    async def find_names(self, namespace: str, query: str, *, limit: int) -> list[UUID]:
        """Entities whose name or alias is `query`, begins with it or holds its words, in this order; else parts of words."""
        ...

    async def neighbours(
        self,
        namespace: str,
        entity_ids: Sequence[UUID],
        *,
        hops: int = 1,
        limit: int = 50,
        as_of: datetime | None = None,
    ) -> list[Neighbour]:
        """Entities within 1 to 3 hops, themselves not among them; `as_of` passes facts only that were true then."""
        ...
