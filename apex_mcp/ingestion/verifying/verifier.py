"""Everything compared with the record: the record itself first, since all the rest is compared with it."""

import logging
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from apex_mcp.errors import ApexError
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.staging import Staging
from apex_mcp.ingestion.verifying.findings import CACHE, GRAPH, RECORD, STAGING, VECTORS, Finding
from apex_mcp.ingestion.verifying.of_record import RecordVerifier
from apex_mcp.ingestion.verifying.of_staging import StagingVerifier
from apex_mcp.ingestion.verifying.of_vectors import VectorVerifier
from apex_mcp.stores.record import Record

COMPARED = "it can be compared with the record"

_log = logging.getLogger(__name__)

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

        A store that cannot be compared to the end, because it does not answer or of a fault of ours, is a finding too.
        """
        for store, verifier in (
            (RECORD, self.record),
            (VECTORS, self.vectors),
            (GRAPH, self._graph),
            (STAGING, self.staging),
        ):
            if verifier is None:
                yield Finding(store=store, what="", note="nothing to compare: the record itself is the graph")
                continue
            try:
                async for found in verifier.run(repair=repair):
                    yield found
            except ApexError as error:
                yield _uncompared(store, str(error))
            except Exception as error:  # noqa: BLE001  (the fault is this store's: what is found in others is shown)
                _log.exception("the %s could not be compared", store)
                yield _uncompared(
                    store, f"unexpected error ({type(error).__name__}): see what `apex-mcp logs` shows"
                )
        where = "in Redis" if self._on_redis else "in this process"
        yield Finding(
            store=CACHE,
            what="",
            note=f"nothing to compare: what is kept {where} names the state that it was made of, and ends by itself",
        )


def _uncompared(store: str, reason: str) -> Finding:
    return Finding(store=store, what=COMPARED, differs=1, left=1, note=reason)
