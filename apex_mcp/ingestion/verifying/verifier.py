"""Everything compared with the record: the record itself first, since all the rest is compared with it."""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.staging import Staging
from apex_mcp.ingestion.verifying.findings import CACHE, GRAPH, Finding
from apex_mcp.ingestion.verifying.of_record import RecordVerifier
from apex_mcp.ingestion.verifying.of_staging import StagingVerifier
from apex_mcp.ingestion.verifying.of_vectors import VectorVerifier
from apex_mcp.stores.record import Record

# The driver is loaded where a server is set only.
if TYPE_CHECKING:
    from apex_mcp.ingestion.verifying.of_graph import GraphVerifier


class Verifier:
    """Compares, and mends where it is asked to.

    Args:
        record: PostgreSQL.
        index: the vector index and its keeper.
        staging: where content waits.
        staging_ttl_seconds: how long.
        graph: where the graph is on a server.
        on_redis: caches are on a server.
    """

    def __init__(
        self,
        *,
        record: Record,
        index: IndexKeeper,
        staging: Staging,
        staging_ttl_seconds: float,
        graph: "GraphVerifier | None" = None,
        on_redis: bool = False,
    ) -> None:
        self.record = RecordVerifier(record.checks)
        self.vectors = VectorVerifier(record, index)
        self.staging = StagingVerifier(record.ingestions, staging, staging_ttl_seconds)
        self._graph = graph
        self._on_redis = on_redis

    async def remove_orphans(self) -> int:
        """Remove from every index what is of nothing that the record holds; of how many things there was something.

        Raises:
            Unavailable: the record or an index does not answer.
        """
        of_vectors = await self.vectors.remove_orphans()
        return of_vectors + (await self._graph.remove_orphans() if self._graph is not None else 0)

    async def run(self, *, repair: bool) -> AsyncGenerator[Finding]:
        """Yield each comparison with its outcome; with `repair` what differed was mended, and compared again.

        Raises:
            Unavailable: the record or an index does not answer; what was mended stays so.
        """
        async for found in self.record.run(repair=repair):
            yield found
        async for found in self.vectors.run(repair=repair):
            yield found
        if self._graph is None:
            yield Finding(store=GRAPH, what="", note="nothing to compare: the record itself is the graph")
        else:
            async for found in self._graph.run(repair=repair):
                yield found
        async for found in self.staging.run(repair=repair):
            yield found
        where = "in Redis" if self._on_redis else "in this process"
        yield Finding(
            store=CACHE,
            what="",
            note=f"nothing to compare: what is kept {where} names the state that it was made of, and ends by itself",
        )
