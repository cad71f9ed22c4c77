"""Processes of one record that are given different Qdrant servers, and a record that moves from one server to another."""

from collections.abc import Generator

import pytest

from apex_mcp.errors import Code, Unavailable
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.stores.record import Record
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.keepers import (
    accept,
    found,
    lacks,
    process,
    remember,
    running,
    searcher,
    server,
)
from tests.record import notes
from tests.record.conftest import conninfo, postgres, record
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record", "server"]

pytestmark = pytest.mark.anyio

WRONG = "the Qdrant server at APEX_QDRANT_URL does not have the index that the memory uses"


@pytest.fixture
def elsewhere() -> Generator[QdrantServer]:
    """Another server than `server`."""
    with QdrantServer() as running:
        yield running


async def kept(record: Record, keeper: IndexKeeper) -> None:
    """Wait until this process does the upkeep, and its index is the record's and whole."""

    async def whole() -> bool:
        use = await record.index_log.in_use()
        return keeper._upkeep.keeping and use.whole and use.made is not None and use == keeper.use

    await eventually(whole)


async def refused(record: Record, keeper: IndexKeeper, key: str) -> None:
    """It neither writes nor searches, and says why."""
    before = await notes.visible_texts(record)
    token, version, points = await accept(record, key, "heron refused")
    with pytest.raises(Unavailable, match=WRONG) as error:
        await keeper.commit(points, [version], token)
    assert error.value.code is Code.VECTORS_UNAVAILABLE
    assert await notes.visible_texts(record) == before
    answer = await searcher(record, keeper)()
    assert (answer.passages, answer.degraded) == ([], ["the vector index did not answer", WRONG])


async def test_a_process_with_another_address_is_refused_and_disturbs_nobody(
    record: Record,
    conninfo: str,
    server: QdrantServer,
    elsewhere: QdrantServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with process(conninfo, server) as keeper, running(keeper):
        await remember(record, keeper, "note", "heron")
        await kept(record, keeper)
        before = await record.index_log.in_use()
        async with process(conninfo, elsewhere) as wrong, running(wrong):
            assert WRONG in caplog.text
            await refused(record, wrong, "other")
            assert elsewhere.collections() == set()
            answer = await searcher(record, keeper)()
            assert (len(answer.passages), answer.degraded) == (1, [])
            await remember(record, keeper, "another", "heron too")
        assert await record.index_log.in_use() == before


async def test_what_waits_goes_through_once_the_process_has_the_right_address(
    record: Record, conninfo: str, server: QdrantServer, elsewhere: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, running(keeper):
        await kept(record, keeper)
        before = await record.index_log.in_use()
        token, version, points = await accept(record, "note", "heron")
        async with process(conninfo, elsewhere) as wrong:
            with pytest.raises(Unavailable):
                await wrong.commit(points, [version], token)
        async with process(conninfo, server) as right:
            await right.commit(points, [version], token)
        assert await found(record, keeper, "heron") == 1
        assert await record.index_log.in_use() == before


async def test_what_was_written_elsewhere_before_anybody_kept_an_index_is_brought(
    record: Record, conninfo: str, server: QdrantServer, elsewhere: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, process(conninfo, elsewhere) as wrong:
        await remember(record, wrong, "early", "heron early")
        assert await found(record, keeper, "heron") == 0
        async with running(keeper):
            await kept(record, keeper)
            assert await found(record, keeper, "heron") == 1
            await refused(record, wrong, "late")
            assert await lacks(record, keeper) is None


async def test_an_index_that_the_record_does_not_mean_yet_is_not_used(
    record: Record, conninfo: str, server: QdrantServer, elsewhere: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, process(conninfo, elsewhere) as next_one:
        await remember(record, next_one, "note", "heron")
        async with running(keeper):
            await kept(record, keeper)
        await next_one._current.refresh(deciding=True)
        await refused(record, next_one, "late")
        async with running(next_one):
            await kept(record, next_one)
            answer = await searcher(record, next_one)()
            assert (len(answer.passages), answer.degraded) == (1, [])


async def test_a_commit_is_refused_whose_points_went_to_an_index_that_is_not_meant_any_more(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as writer, process(conninfo, server) as keeper, running(keeper):
        await kept(record, keeper)
        await remember(record, writer, "note", "heron")
        token, version, points = await accept(record, "late", "heron late")
        old = writer.use
        await writer.vectors.upsert(points)
        [collection] = server.collections()
        server.drop(collection)

        async def meant() -> bool:
            return (await record.index_log.in_use()).made != old.made

        await eventually(meant)
        result = await record.versions.commit([version], token, index=old)
        assert (result.index_replaced, await notes.visible_texts(record)) == (True, ["heron"])
        await writer.commit(points, [version], token)
        await kept(record, keeper)
        assert [await found(record, one, "heron") for one in (writer, keeper)] == [2, 2]


async def test_no_position_is_noted_in_an_index_that_is_not_meant_any_more(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper:
        async with running(keeper):
            await kept(record, keeper)
        position = keeper.vectors.position()
        await remember(record, keeper, "note", "heron")
        await record.index_log.set_made(keeper.use.name, "another server's")
        await keeper.flush()
        assert keeper.vectors.position() == position


async def test_a_memory_moves_to_another_server_when_all_its_processes_name_that(
    record: Record, conninfo: str, server: QdrantServer, elsewhere: QdrantServer
) -> None:
    async with process(conninfo, server) as left_behind:
        async with running(left_behind):
            await remember(record, left_behind, "note", "heron")
            await kept(record, left_behind)
        async with process(conninfo, elsewhere) as keeper, process(conninfo, elsewhere) as other:
            async with running(keeper):
                await kept(record, keeper)
                await remember(record, keeper, "new", "heron new")
                await eventually(lambda: lacks_nothing(record, other))
                assert [await found(record, one, "heron") for one in (keeper, other)] == [2, 2]
                await refused(record, left_behind, "late")


async def lacks_nothing(record: Record, keeper: IndexKeeper) -> bool:
    answer = await searcher(record, keeper)()
    return not answer.degraded


async def test_a_server_that_was_emptied_is_filled_by_the_process_that_keeps_the_index_and_by_no_other(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper:
        async with running(keeper):
            await remember(record, keeper, "note", "heron")
            await kept(record, keeper)
        [collection] = server.collections()
        server.drop(collection)
        async with process(conninfo, server) as late:
            await refused(record, late, "late")
            assert server.collections() == set()
            async with running(keeper):
                await kept(record, keeper)
                await eventually(lambda: lacks_nothing(record, late))
                await remember(record, late, "later", "heron later")
                assert [await found(record, one, "heron") for one in (keeper, late)] == [2, 2]


async def test_the_process_that_keeps_the_index_decides_which_server_has_it_until_it_ends(
    record: Record, conninfo: str, server: QdrantServer, elsewhere: QdrantServer
) -> None:
    async with process(conninfo, server) as right:
        async with running(right):
            await remember(record, right, "note", "heron")
            await kept(record, right)
        async with process(conninfo, elsewhere) as wrong:
            async with running(wrong):
                await kept(record, wrong)
                async with running(right):
                    await refused(record, right, "late")
                    await remember(record, wrong, "new", "heron new")
                    assert await found(record, wrong, "heron") == 2
                    await refused(record, right, "later")
                    meant = await record.index_log.in_use()
                    assert meant.made == wrong.vectors.made
            async with running(right):
                await kept(record, right)
                # Points of what was refused may have been written before that was known: no search shows them.
                answer = await searcher(record, right)()
                assert (len(answer.passages), answer.degraded) == (2, [])
                await refused(record, wrong, "too late")
