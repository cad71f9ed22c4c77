"""PostgreSQL, the record."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from apex_mcp.models import Exclusive
from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.enrichments import EnrichmentStore
from apex_mcp.stores.record.forgetting import ForgetStore
from apex_mcp.stores.record.graph_changes import GraphQueue
from apex_mcp.stores.record.index_log import IndexLog
from apex_mcp.stores.record.ingestions import IngestionStore
from apex_mcp.stores.record.purging import PurgeStore
from apex_mcp.stores.record.reading import Reader
from apex_mcp.stores.record.schema import ensure_schema
from apex_mcp.stores.record.splitting import SplitStore
from apex_mcp.stores.record.timeline import EXCLUSIVE
from apex_mcp.stores.record.versions import VersionStore

__all__ = ["Record", "open_record"]


@dataclass(frozen=True, slots=True)
class Record:
    """The record, by use."""

    database: Database
    ingestions: IngestionStore
    versions: VersionStore
    purges: PurgeStore
    index_log: IndexLog
    reader: Reader
    enrichments: EnrichmentStore
    splits: SplitStore
    graph_queue: GraphQueue
    forgetting: ForgetStore


@asynccontextmanager
async def open_record(conninfo: str, *, exclusive: Exclusive = EXCLUSIVE) -> AsyncGenerator[Record]:
    """Migrate if needed and open the pool.

    Args:
        conninfo: how to connect.
        exclusive: predicates that have one object, or one subject, at a time: a fact ends where the next one begins.

    Raises:
        Unavailable: the database does not answer.
        Rejected: the database is newer than this code (`schema_newer`), or does not let us in (`settings_invalid`).
    """
    await ensure_schema(conninfo)
    database = Database(conninfo)
    await database.open()
    try:
        yield Record(
            database,
            IngestionStore(database),
            VersionStore(database),
            PurgeStore(database),
            IndexLog(database),
            Reader(database, exclusive),
            EnrichmentStore(database, exclusive),
            SplitStore(database),
            GraphQueue(database),
            ForgetStore(database),
        )
    finally:
        await database.close()
