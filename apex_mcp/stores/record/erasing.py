"""Erasing: what was removed from tables leaves the database's files too.

PostgreSQL keeps removed rows until their place is needed, keeps samples of values for its planner, and has written everything
ahead. Of a bundled server all of that is ours to rewrite. On a server of the user's the tables are vacuumed: what its
write-ahead log, its archives, replicas and backups hold is its operator's.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg.sql import SQL, Identifier

from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.record.database import LONG_SECONDS, Connection, Database

_OPEN: LiteralString = """
SELECT count(*) AS number, min(forgotten_at) AS oldest, clock_timestamp() AS now FROM forgettings
WHERE removed_at IS NOT NULL AND erased_at IS NULL
"""
_NOTE: LiteralString = """
UPDATE forgettings SET erased_at = clock_timestamp() WHERE removed_at <= %s AND erased_at IS NULL
"""

_TABLES: LiteralString = """
SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' ORDER BY relname
"""
# The planner's samples of a table stay when it is analysed with no row in it.
_CLEAR_SAMPLES: LiteralString = """
SELECT pg_clear_attribute_stats(schemaname, tablename, attname, inherited) FROM pg_stats
WHERE schemaname = current_schema()
"""
# Rows that one of these may still see are kept.
_OLDER_SNAPSHOTS: LiteralString = """
SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_xmin IS NOT NULL AND age(backend_xmin) > age(%s::xid)
"""
# Files that were made for later by renaming old ones, which hold what those held until they are written anew.
_PREPARED_WAL: LiteralString = """
SELECT count(*) AS number FROM pg_ls_waldir() WHERE name > pg_walfile_name(pg_current_wal_insert_lsn()) AND length(name) = 24
"""

_SNAPSHOTS_SECONDS = 60.0
_LOCK_SECONDS = 5.0
_LOOK_SECONDS = 0.1
_MOST_WAL_FILES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenErasures:
    """Requests to forget whose rows are gone, and which files may still hold.

    Attributes:
        oldest: when the first of them was made.
        now: the database's clock.
    """

    number: int
    oldest: datetime | None
    now: datetime


class ErasureStore:
    """The record's files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self) -> OpenErasures:
        """What is still to be erased. Raises Unavailable."""
        row = await self._database.fetch_one(_OPEN)
        assert row is not None
        return OpenErasures(**row)

    async def note(self, removed_before: datetime) -> int:
        """Note that files are rid of what was removed by then; of how many requests. Raises Unavailable."""
        async with self._database.connection(answer_seconds=LONG_SECONDS) as connection:
            return (await connection.execute(_NOTE, (removed_before,))).rowcount

    async def rewrite(self) -> None:
        """Write every table anew, and let go of what was written ahead: for a bundled server.

        Reads and writes of a table wait while it is rewritten.

        Raises:
            Unavailable: the database does not answer, has no room, or a long read holds on to what was removed, or to a table.
        """
        async with self._database.connection(answer_seconds=LONG_SECONDS) as connection:
            await _until_nobody_sees_what_was_removed(connection)
            await connection.execute(_CLEAR_SAMPLES)
            async with _impatient(connection):
                for table in await _tables(connection):
                    await connection.execute(SQL("VACUUM (FULL, ANALYZE) {}").format(table))
                # In which the samples were that are cleared by now.
                await connection.execute("VACUUM FULL pg_catalog.pg_statistic")
            await _drop_written_ahead(connection)

    async def vacuum(self) -> None:
        """Have the place of removed rows used again: for a server of the user's. Raises Unavailable."""
        async with self._database.connection(answer_seconds=LONG_SECONDS) as connection:
            for table in await _tables(connection):
                await connection.execute(SQL("VACUUM (ANALYZE) {}").format(table))


async def _tables(connection: Connection) -> list[Identifier]:
    return [Identifier(row["relname"]) for row in await (await connection.execute(_TABLES)).fetchall()]


@asynccontextmanager
async def _impatient(connection: Connection) -> AsyncGenerator[None]:
    """Give up a table that others use for long, as a backup does: who asks to read it waits behind who waits to rewrite it."""
    await connection.execute(SQL("SET lock_timeout = {}").format(int(_LOCK_SECONDS * 1000)))
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute("RESET lock_timeout")


async def _until_nobody_sees_what_was_removed(connection: Connection) -> None:
    row = await (await connection.execute("SELECT pg_current_xact_id()::xid::text AS xid")).fetchone()
    assert row is not None
    deadline = time.monotonic() + _SNAPSHOTS_SECONDS
    while True:
        found = await (await connection.execute(_OLDER_SNAPSHOTS, (row["xid"],))).fetchone()
        if not found or not found["number"]:
            return
        if time.monotonic() > deadline:
            raise Unavailable(
                "a read that began before still sees what was removed",
                code=Code.RECORD_UNAVAILABLE,
                unchanged="nothing was erased yet",
                next_step="nothing is to be done: maintenance tries again",
                retry_after_seconds=_SNAPSHOTS_SECONDS,
            )
        await asyncio.sleep(_LOOK_SECONDS)


async def _drop_written_ahead(connection: Connection) -> None:
    for _ in range(_MOST_WAL_FILES):
        found = await (await connection.execute(_PREPARED_WAL)).fetchone()
        # Without a word in it a file is not left for the next one; what is left of one is filled with zeros.
        await connection.execute("SELECT pg_logical_emit_message(false, 'apex-mcp', '')")
        await connection.execute("SELECT pg_switch_wal()")
        if not found or not found["number"]:
            break
    await connection.execute("CHECKPOINT")
