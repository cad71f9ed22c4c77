"""An older state of the record, or of its index on a server, that was put back: what it lacks is brought, and said until then."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from apex_mcp.ingestion import indexing
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.stores.record import Record, open_record
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.keepers import found, process, remember, running, searcher, server
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


async def answer_of(record: Record, keeper: IndexKeeper) -> tuple[int, Sequence[str]]:
    found = await searcher(record, keeper)()
    return len(found.passages), found.degraded


async def test_an_older_collection_is_not_answered_from_as_if_it_were_whole_while_no_worker_runs(
    record: Record, conninfo: str, tmp_path: Path
) -> None:
    folder, copy = tmp_path / "qdrant", tmp_path / "copy"
    port = 0
    for key in ("note", "other"):
        with QdrantServer(path=folder, port=port) as server:
            port = int(server.url.rsplit(":", 1)[1])
            async with process(conninfo, server) as keeper, running(keeper):
                await remember(record, keeper, key, f"heron {key}")
                await flushed(record, keeper)
        if key == "note":
            shutil.copytree(folder, copy)
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    with QdrantServer(path=folder, port=port) as server:
        async with process(conninfo, server) as serving:
            passages, degraded = await answer_of(record, serving)
            assert (passages, len(degraded)) == (1, 1)
            assert "older state" in degraded[0]
            async with process(conninfo, server) as worker, running(worker):

                async def whole() -> bool:
                    return await answer_of(record, serving) == (2, [])

                await eventually(whole)


async def test_a_server_sees_that_an_older_collection_was_put_back_under_it(
    record: Record, conninfo: str, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "LOOK_SECONDS", 0.1)
    async with process(conninfo, server) as keeper:
        async with running(keeper):
            await remember(record, keeper, "note", "heron")
            await flushed(record, keeper)
            older = keeper.vectors.position()
            assert older is not None
            await remember(record, keeper, "other", "heron too")
            await flushed(record, keeper)
        async with process(conninfo, server) as serving, running(serving, upkeep=False):
            assert await answer_of(record, serving) == (2, [])
            await keeper.vectors.flush(older)

            async def says_so() -> bool:
                return bool((await answer_of(record, serving))[1])

            await eventually(says_so)
            async with running(keeper):

                async def whole() -> bool:
                    return await answer_of(record, serving) == (2, [])

                await eventually(whole)
