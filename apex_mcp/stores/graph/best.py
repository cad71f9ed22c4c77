"""The graph that answers: Neo4j where one is set and knows everything, else the record."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from apex_mcp.errors import ApexError
from apex_mcp.stores.graph.protocol import Neighbour
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.record.graph_changes import GraphMark, GraphQueue

# The driver is loaded where a server is set only.
if TYPE_CHECKING:
    from apex_mcp.stores.graph.neo4j_graph import Neo4jGraph

T = TypeVar("T")

# Longer, and it is down as far as an answer is concerned: the record has it sooner.
_ANSWER_SECONDS = 3.0

DEGRADED = "graph: Neo4j does not answer; the record in PostgreSQL answered instead, and nothing is missing"


class BestGraph:
    """Asks Neo4j, and the record where Neo4j is behind or away. With each answer comes what is to be said of it.

    Of a Neo4j that does not answer every answer says so that could have been its, whether or not it was up to date.

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

    async def lacks(self) -> str | None:
        """Why Neo4j does not answer now; None where it does, or none is set."""
        if self._neo4j is None:
            return None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._neo4j.verify()
        except ApexError as error:
            return error.message
        except TimeoutError:
            return "Neo4j does not answer in time"
        return None

    async def find_names(self, namespace: str, query: str, *, limit: int) -> tuple[list[UUID], list[str]]:
        """See `Graph.find_names`."""
        return await self._ask(
            namespace,
            lambda graph, mark: graph.find_names(namespace, query, limit=limit, mark=mark),
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
        away: bool = False,
    ) -> tuple[list[Neighbour], list[str]]:
        """See `Graph.neighbours`; what was known at a past time is the record's to say.

        So is everything where Neo4j is `away`: it did not answer the same caller a moment ago.
        """

        async def of_record() -> list[Neighbour]:
            return await self._record.neighbours(
                namespace, entity_ids, hops=hops, limit=limit, as_of=as_of, known_at=known_at
            )

        if known_at is not None:
            return await of_record(), []
        if away:
            return await of_record(), [DEGRADED]
        return await self._ask(
            namespace,
            lambda graph, mark: graph.neighbours(
                namespace, entity_ids, hops=hops, limit=limit, as_of=as_of, mark=mark
            ),
            of_record,
        )

    async def _ask(
        self,
        namespace: str,
        of_neo4j: "Callable[[Neo4jGraph, GraphMark], Awaitable[T]]",
        of_record: Callable[[], Awaitable[T]],
    ) -> tuple[T, list[str]]:
        if self._neo4j is None:
            return await of_record(), []
        mark = await self._queue.complete_for(namespace)
        if mark is None:
            answer, lacks = await asyncio.gather(of_record(), self.lacks())
            return answer, [DEGRADED] if lacks else []
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await of_neo4j(self._neo4j, mark), []
        except TimeoutError:
            return await of_record(), [DEGRADED]
        except ApexError as error:
            if error.details.get("marked") is False:
                # From now on the record answers, until the graph is written anew.
                await self._queue.begin_anew(mark.token)
                return await of_record(), []
            return await of_record(), [DEGRADED]
