"""An older state of the record, or of its index on a server, that was put back: what it lacks is brought, and said until then."""

import pytest
from psycopg.conninfo import conninfo_to_dict

from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.stores.record import Record, open_record
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.test_shared_index import found, process, remember, running, server
from tests.record.conftest import conninfo, create_database, postgres, record
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record", "server"]

pytestmark = pytest.mark.anyio


async def flushed(record: Record, keeper: IndexKeeper) -> None:
    """Until everything that was committed so far is before the index's position, and the log is cut there."""
    upto = int(await record.index_log.position())

    async def cut() -> bool:
        return int(keeper.vectors.position() or 0) >= upto and not await record.index_log.changed_since("0")

    await eventually(cut)


def copy_of(postgres: EmbeddedPostgres, conninfo: str) -> str:
    """What a dump of now holds, restored into the same cluster."""
    return create_database(postgres, str(conninfo_to_dict(conninfo)["dbname"]))


async def test_an_index_of_a_later_time_than_the_record_that_was_restored_is_made_anew(
    postgres: EmbeddedPostgres, conninfo: str, server: QdrantServer
) -> None:
    async with (
        open_record(conninfo) as record,
        process(conninfo, server) as keeper,
        running(keeper),
    ):
        await remember(record, keeper, "note", "heron")
        await flushed(record, keeper)
    restored = copy_of(postgres, conninfo)
    async with (
        open_record(conninfo) as record,
        process(conninfo, server) as keeper,
        running(keeper),
    ):
        await remember(record, keeper, "note", "stork")
        await remember(record, keeper, "other", "crane")
        await flushed(record, keeper)
    async with open_record(restored) as record, process(restored, server) as keeper:
        before = await record.index_log.in_use()
        async with running(keeper):

            async def replaced() -> bool:
                return (await record.index_log.in_use()).name != before.name

            await eventually(replaced)
            words = ("heron", "stork", "crane")
            assert [await found(record, keeper, word) for word in words] == [1, 0, 0]


async def test_a_record_that_was_restored_under_a_running_worker_has_its_index_made_anew(
    postgres: EmbeddedPostgres, conninfo: str, server: QdrantServer
) -> None:
    async with open_record(conninfo) as record, process(conninfo, server) as keeper, running(keeper):
        await remember(record, keeper, "note", "heron")
        await flushed(record, keeper)
        before = await record.index_log.in_use()
        await record.database.fetch_all(
            "UPDATE identity SET index_position = (index_position::text::bigint - 1)::text::xid8 RETURNING 1"
        )
        await remember(record, keeper, "other", "heron")

        async def replaced() -> bool:
            return (await record.index_log.in_use()).name != before.name

        await eventually(replaced)
        assert await found(record, keeper, "heron") == 2


async def test_an_index_whose_process_ended_just_before_its_flush_is_gone_on_with(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper:
        async with running(keeper):
            await remember(record, keeper, "note", "heron")
            await flushed(record, keeper)
            before = await record.index_log.in_use()
        await remember(record, keeper, "other", "heron")
        position = await record.index_log.position()
        assert await record.index_positions.note(before, position, reached=keeper.vectors.position())
    async with process(conninfo, server) as keeper, running(keeper):
        await eventually(lambda: int(keeper.vectors.position() or 0) >= int(position))

        async def whole() -> bool:
            return (await record.index_log.in_use()).whole

        await eventually(whole)
        now = await record.index_log.in_use()
        assert (now.name, now.made, now.whole) == (before.name, before.made, True)
        assert await found(record, keeper, "heron") == 2
