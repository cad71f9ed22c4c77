"""The graph that answers: Neo4j where one is set and knows everything, else the record."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from apex_mcp.errors import ApexError
from apex_mcp.stores.graph.protocol import Neighbour
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.record.graph_changes import GraphQueue

# The driver is loaded where a server is set only.
if TYPE_CHECKING:
    from apex_mcp.stores.graph.neo4j_graph import Neo4jGraph

T = TypeVar("T")

DEGRADED = "graph: Neo4j does not answer; the record in PostgreSQL answered instead, and nothing is missing"


class BestGraph:
    """Asks Neo4j, and the record where Neo4j is behind or away. Each answer comes with what was missing, as a rule nothing.

    Args:
        record: always complete.
        queue: what Neo4j has yet to be told.
        neo4j: where one is set.
    """

    def __init__(self, record: RecordGraph, queue: GraphQueue, neo4j: "Neo4jGraph | None" = None) -> None:
        self._record = record
        self._queue = queue
        self._neo4j = neo4j

    @property
    def on_server(self) -> bool:
        return self._neo4j is not None

    async def find_names(self, namespace: str, query: str, *, limit: int) -> tuple[list[UUID], list[str]]:
        """See `Graph.find_names`."""
        return await self._ask(
            namespace,
            lambda graph, token: graph.find_names(namespace, query, limit=limit, token=token),
            lambda: self._record.find_names(namespace, query, limit=limit),
        )

    async def neighbours(
        self,
        namespace: str,
        entity_ids: Sequence[UUID],
        *,
        hops: int = 1,
        limit: int = 50,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
    ) -> tuple[list[Neighbour], list[str]]:
        """See `Graph.neighbours`; what was known at a past time is the record's to say."""

        async def of_record() -> list[Neighbour]:
            return await self._record.neighbours(
                namespace, entity_ids, hops=hops, limit=limit, as_of=as_of, known_at=known_at
            )

        if known_at is not None:
            return await of_record(), []
        return await self._ask(
            namespace,
            lambda graph, token: graph.neighbours(
                namespace, entity_ids, hops=hops, limit=limit, as_of=as_of, token=token
            ),
            of_record,
        )

    async def _ask(
        self,
        namespace: str,
        of_neo4j: "Callable[[Neo4jGraph, str], Awaitable[T]]",
        of_record: Callable[[], Awaitable[T]],
    ) -> tuple[T, list[str]]:
        token = await self._queue.complete_for(namespace) if self._neo4j is not None else None
        if self._neo4j is None or token is None:
            return await of_record(), []
        try:
            return await of_neo4j(self._neo4j, token), []
        except ApexError as error:
            if error.details.get("marked") is False:
                # From now on the record answers, until the graph is written anew.
                await self._queue.end(token)
                return await of_record(), []
            return await of_record(), [DEGRADED]
