"""PostgreSQL, the record."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.index_log import IndexLog
from apex_mcp.stores.record.ingestions import IngestionStore
from apex_mcp.stores.record.purging import PurgeStore
from apex_mcp.stores.record.reading import Reader
from apex_mcp.stores.record.schema import ensure_schema
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


@asynccontextmanager
async def open_record(conninfo: str) -> AsyncGenerator[Record]:
    """Migrate if needed and open the pool.

    Raises:
        Unavailable: the database does not answer.
        Rejected: the database is newer than this code (`schema_newer`).
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
            Reader(database),
        )
    finally:
        await database.close()
