"""PostgreSQL, the record."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from apex_mcp.models import Exclusive
from apex_mcp.stores.record.archives import ArchiveLog
from apex_mcp.stores.record.checking import RecordChecks
from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.enrichments import EnrichmentStore
from apex_mcp.stores.record.erasing import ErasureStore
from apex_mcp.stores.record.forgetting import ForgetStore
from apex_mcp.stores.record.graph_changes import GraphQueue
from apex_mcp.stores.record.graph_pages import GraphPages
from apex_mcp.stores.record.holdings import Holdings
from apex_mcp.stores.record.import_ending import ImportEnding
from apex_mcp.stores.record.importing import ImportStore
from apex_mcp.stores.record.index_fillings import IndexFillings
from apex_mcp.stores.record.index_log import IndexLog
from apex_mcp.stores.record.index_positions import IndexPositions
from apex_mcp.stores.record.ingestions import IngestionStore
from apex_mcp.stores.record.name_vectors import NameVectors
from apex_mcp.stores.record.outbox import Outbox
from apex_mcp.stores.record.passage_vectors import PassageVectors
from apex_mcp.stores.record.purging import PurgeStore
from apex_mcp.stores.record.reading import Reader
from apex_mcp.stores.record.retention import RetentionStore
from apex_mcp.stores.record.schema import ensure_schema
from apex_mcp.stores.record.splitting import SplitStore
from apex_mcp.stores.record.timeline import EXCLUSIVE
from apex_mcp.stores.record.tombstones import TombstoneStore
from apex_mcp.stores.record.versions import VersionStore

__all__ = ["Record", "open_record"]


@dataclass(frozen=True, slots=True)
class Record:
    """The record, by use."""

    database: Database
    ingestions: IngestionStore
    outbox: Outbox
    versions: VersionStore
    purges: PurgeStore
    index_log: IndexLog
    index_fillings: IndexFillings
    index_positions: IndexPositions
    reader: Reader
    enrichments: EnrichmentStore
    splits: SplitStore
    graph_queue: GraphQueue
    checks: RecordChecks
    holdings: Holdings
    graph_pages: GraphPages
    retention: RetentionStore
    erasures: ErasureStore
    forgetting: ForgetStore
    tombstones: TombstoneStore
    archives: ArchiveLog
    imports: ImportStore
    import_ending: ImportEnding
    passage_vectors: PassageVectors
    name_vectors: NameVectors


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
            Outbox(database),
            VersionStore(database),
            PurgeStore(database),
            IndexLog(database),
            IndexFillings(database),
            IndexPositions(database),
            Reader(database, exclusive),
            EnrichmentStore(database, exclusive),
            SplitStore(database),
            GraphQueue(database),
            RecordChecks(database),
            Holdings(database),
            GraphPages(database),
            RetentionStore(database),
            ErasureStore(database),
            ForgetStore(database),
            TombstoneStore(database),
            ArchiveLog(database),
            ImportStore(database),
            ImportEnding(database),
            PassageVectors(database),
            NameVectors(database),
        )
    finally:
        await database.close()
