"""One vector index on a server, kept by several processes of one record. Each keeper here stands for a process."""

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import datetime

import pytest

from apex_mcp.errors import Code, Conflict, Rejected, Unavailable
from apex_mcp.ingestion import current_index
from apex_mcp.ingestion.current_index import CurrentIndex
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import IngestionState
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.index_log import REBUILDING
from apex_mcp.stores.vectors import qdrant_home
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.embedders import embedder_of, owed_none
from tests.ingestion.keepers import (
    EVERYTHING,
    accept,
    found,
    lacks,
    process,
    reindexed,
    remember,
    running,
    searcher,
    server,
)
from tests.record import notes
from tests.record.conftest import conninfo, postgres, record
from tests.stores.index_points import version_of
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record", "server"]

pytestmark = pytest.mark.anyio


async def test_what_one_process_commits_another_finds_and_replaces(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as one, process(conninfo, server) as other:
        await remember(record, one, "note", "heron first")
        assert await found(record, other, "heron") == 1
        await remember(record, other, "note", "heron second")
        assert await found(record, one, "first") == 0
        assert await found(record, one, "second") == 1


async def test_processes_that_start_at_once_make_one_index(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with AsyncExitStack() as stack:
        keepers = await asyncio.gather(
            *(stack.enter_async_context(process(conninfo, server)) for _ in range(4))
        )
        assert len(server.collections()) == 1
        for number, keeper in enumerate(keepers):
            await remember(record, keeper, f"note{number}", "heron")
        assert [await found(record, keeper, "heron") for keeper in keepers] == [4] * 4


async def test_one_process_does_the_upkeep_and_another_takes_over_when_it_ends(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as one, process(conninfo, server) as other:
        async with running(one) as first, running(other) as second:
            task_of = {one: first, other: second}

            def keeping() -> list[IndexKeeper]:
                return [keeper for keeper in task_of if keeper._upkeep.keeping]

            await eventually(keeping)
            [leader] = keeping()
            await eventually(lambda: leader.vectors.position() is not None)
            looked = await refused_last(record)
            await eventually(lambda: refused_since(record, looked))
            assert keeping() == [leader]
            task_of[leader].cancel()
            await eventually(lambda: keeping() not in ([], [leader]))
            await remember(record, leader, "note", "heron first")
            [follower] = keeping()
            before = follower.vectors.position()
            await eventually(lambda: follower.vectors.position() != before)


async def holders(record: Record) -> set[int]:
    """The sessions that hold the upkeep's lock."""
    rows = await record.database.fetch_all(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
        "AND objid::bigint = hashtext('apex-mcp index upkeep')::bigint & 4294967295 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return {row["pid"] for row in rows}


async def refused_last(record: Record) -> datetime | None:
    """When somebody asked for the upkeep's lock last, and did not get it."""
    row = await record.database.fetch_one(
        "SELECT max(query_start) AS at FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle' "
        "AND query LIKE '%%pg_try_advisory_lock%%' AND pid <> ALL(%s)",
        (list(await holders(record)),),
    )
    return row["at"] if row else None


async def refused_since(record: Record, before: datetime | None) -> bool:
    last = await refused_last(record)
    return last is not None and (before is None or last > before)


async def test_the_upkeep_ends_where_its_lock_was_lost_and_is_taken_up_again(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, running(keeper):
        await eventually(lambda: keeper._upkeep.keeping)
        [first] = await holders(record)
        async with process(conninfo, server) as other, running(other):
            await record.database.fetch_all("SELECT pg_terminate_backend(%s)", (first,))

            async def taken_up() -> bool:
                keeping = [one for one in (keeper, other) if one._upkeep.keeping]
                return (
                    len(keeping) == 1 and not await holders(record) & {first} and bool(await holders(record))
                )

            await eventually(taken_up)


async def test_what_a_process_left_undone_after_its_commit_is_done_by_the_upkeep(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as dying, process(conninfo, server) as keeper, running(keeper):
        await remember(record, dying, "note", "heron first")
        token, version, points = await accept(record, "note", "heron second")
        await dying.vectors.upsert(points)

        async def committed() -> bool:
            # Not while the upkeep begins: it notes then what the index may lack.
            use = await record.index_log.in_use()
            result = await record.versions.commit([version], token, index=use)
            return list(result.states.values()) == [IngestionState.READY]

        await eventually(committed)
        # It dies here: the first one is still current in the index.

        async def settled() -> bool:
            return await found(record, keeper, "heron") == 1

        await eventually(settled)
        assert await found(record, keeper, "second") == 1


async def test_the_index_is_made_again_when_its_collection_vanished(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, process(conninfo, server) as other, running(keeper):
        for number in range(30):
            await remember(record, other, f"note{number}", f"heron number{number}")
        await eventually(lambda: keeper.vectors.position() is not None)
        [collection] = server.collections()
        server.drop(collection)

        async def back() -> bool:
            with suppress(Exception):
                return await found(record, other, "heron") == 30
            return False

        await eventually(back)

        async def whole() -> bool:
            return await lacks(record, other) is None and keeper.vectors.position() is not None

        await eventually(whole)
        assert server.collections() == {collection}


async def test_a_collection_that_vanishes_amid_the_mending_is_not_taken_for_whole(
    record: Record, conninfo: str, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(conninfo, server) as keeper:
        await remember(record, keeper, "note", "heron")
        keeper._current.keeping = True
        assert await keeper._upkeep.mend()
        settled = CurrentIndex.settled

        async def vanishing(current: CurrentIndex) -> int:
            monkeypatch.undo()
            for collection in server.collections():
                server.drop(collection)
            return await settled(current)

        monkeypatch.setattr(CurrentIndex, "settled", vanishing)
        assert not await keeper._upkeep.mend()
        assert await lacks(record, keeper) is not None

        async def mended() -> bool:
            return await keeper._upkeep.mend()

        await eventually(mended)
        assert await lacks(record, keeper) is None
        assert await found(record, keeper, "heron") == 1


async def test_while_it_is_made_again_every_process_says_so(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, process(conninfo, server) as other:
        await remember(record, other, "note", "heron")

        async def whole() -> bool:
            return keeper.vectors.position() is not None and await lacks(record, other) is None

        async with running(keeper):
            await eventually(whole)
            async with record.index_log.alone(REBUILDING, wait_seconds=5) as alone:
                assert alone
                [collection] = server.collections()
                server.drop(collection)
                await eventually(lambda: keeper.vectors.position() is None)
            server.holding = "PUT .*/points"
            server.held.clear()
            try:
                await eventually(lambda: lacks(record, other))
            finally:
                server.held.set()
            await eventually(whole)
            assert await found(record, other, "heron") == 1


async def test_an_index_that_lost_its_points_is_not_answered_from_as_if_it_had_them(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, process(conninfo, server) as other:
        await remember(record, other, "note", "heron")
        search = searcher(record, other)
        async with running(keeper):
            await eventually(lambda: keeper.vectors.position() is not None)
            # Somebody else seems to rebuild, so the new collection stays empty for as long as this block lasts.
            async with record.index_log.alone(REBUILDING, wait_seconds=5) as alone:
                assert alone
                [collection] = server.collections()
                server.drop(collection)
                await eventually(lambda: keeper.vectors.position() is None)
                assert server.collections() == {collection}
                answer = await search()
                assert (answer.passages, bool(answer.degraded)) == ([], True)

            async def whole_again() -> bool:
                answer = await search()
                return len(answer.passages) == 1 and not answer.degraded

            await eventually(whole_again)


async def test_a_process_that_starts_on_a_collection_that_is_gone_says_so_before_it_makes_it_anew(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as one:
        await remember(record, one, "note", "heron")
        [collection] = server.collections()
        server.drop(collection)
        async with process(conninfo, server) as late:
            for keeper in (one, late):
                answer = await searcher(record, keeper)()
                assert (answer.passages, bool(answer.degraded)) == ([], True)


async def test_a_search_during_which_the_index_was_lost_and_made_again_says_so(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper, process(conninfo, server) as other, running(keeper):
        await remember(record, other, "note", "heron")

        async def whole() -> bool:
            return (await record.index_log.in_use()).whole

        await eventually(lambda: keeper.vectors.position() is not None)
        await eventually(whole)
        before = await record.index_log.in_use()
        assert other.lacked_between(before, before) is None
        [collection] = server.collections()
        server.drop(collection)

        async def made_again() -> bool:
            use = await record.index_log.in_use()
            return use.whole and use.losses > before.losses

        await eventually(made_again)
        now = await record.index_log.in_use()
        assert other.lacked_between(before, now)
        assert other.lacked_between(now, now) is None


async def test_what_was_written_to_a_collection_that_another_process_made_anew_is_not_noted_as_complete(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper:
        generation = keeper.vectors.generation
        await remember(record, keeper, "note", "heron")
        [collection] = server.collections()
        server.drop(collection)
        async with process(conninfo, server):
            pass
        with pytest.raises(Unavailable):
            await keeper.vectors.flush("7", generation=generation)


async def test_a_search_during_which_a_note_is_replaced_finds_one_of_its_versions(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as one, process(conninfo, server) as other:
        await remember(record, other, "note", "heron first")
        server.holding = "POST .*/points/query"
        server.held.clear()
        try:
            asked = len(server.requests)
            search = asyncio.create_task(searcher(record, one)())
            await eventually(lambda: len(server.requests) > asked)
            # The search has its snapshot, in which the first version is current.
            await remember(record, other, "note", "heron second")
        finally:
            server.held.set()
        answer = await search
        assert (len(answer.passages), answer.degraded) == (1, [])


async def test_a_commit_to_an_index_that_was_replaced_goes_to_the_new_one(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as late, process(conninfo, server) as keeper:
        before = late.use
        await reindexed(keeper)
        assert late.use == before
        await remember(record, late, "note", "heron")
        assert late.use.name == keeper.use.name != before.name
        assert await found(record, keeper, "heron") == 1


async def test_nothing_is_committed_to_an_index_that_is_not_in_use(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper:
        token, version, points = await accept(record, "note", "heron")
        old = keeper.use
        await keeper.vectors.upsert(points)
        await reindexed(keeper)
        result = await record.versions.commit([version], token, index=old)
        assert (result.index_replaced, result.states, await notes.visible_texts(record)) == (True, {}, [])


async def test_a_reindex_for_other_vectors_goes_on_while_others_search_and_write(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with embedder_of(16) as small, embedder_of(24) as large:
        async with process(conninfo, server, small) as keeper, running(keeper):
            for number in range(20):
                await remember(record, keeper, f"early{number}", f"heron early{number}")
            await eventually(lambda: keeper.vectors.dimension == 16 and not keeper.meaning.owed)
            await eventually(lambda: owed_none(record, small.name))

        async with (
            process(conninfo, server, small) as writer,
            process(conninfo, server, large) as keeper,
            running(keeper),
        ):
            missed: list[int] = []
            stop = asyncio.Event()
            written = 0

            async def search() -> None:
                while not stop.is_set():
                    least = written
                    count = await found(record, writer, "heron")
                    if count < 20 + least:
                        missed.append(count)

            async def write() -> None:
                nonlocal written
                vector = await small.embed_query("late")
                while not stop.is_set():
                    token, version, points = await accept(
                        record, f"late{written}", f"heron late{written}", (small.name, vector)
                    )
                    result = await writer.commit(points, [version], token)
                    assert list(result.states.values()) == [IngestionState.READY]
                    written += 1

            tasks = [asyncio.create_task(work()) for work in (search, write)]
            await eventually(lambda: written > 3)
            steps = await reindexed(keeper)
            at_swap = written
            await eventually(lambda: written > at_swap + 3)
            stop.set()
            await asyncio.gather(*tasks)
            assert steps[-1][0] == "passages that wait for vectors"
            assert missed == []
            await eventually(lambda: owed_none(record, large.name))
            assert (writer.use.embedder, writer.vectors.dimension) == (large.name, 24)
            everything = 20 + written
            assert await found(record, writer, "heron") == everything
            vector = await large.embed_query("heron")

            async def all_have_vectors() -> bool:
                hits = await writer.vectors.search_dense(vector, EVERYTHING, limit=1_000)
                return len(hits) == everything

            await eventually(all_have_vectors)
            # The one before it goes when no search can be left in it.
            await eventually(lambda: removed(keeper, server))


async def removed(keeper: IndexKeeper, server: QdrantServer) -> bool:
    await keeper._upkeep._tidy()
    return len(server.collections()) == 1


async def test_one_reindex_at_a_time_over_all_processes(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as one, process(conninfo, server) as other:
        await remember(record, one, "note", "heron")
        steps = one.reindex()
        await anext(steps)
        with pytest.raises(Conflict):
            await reindexed(other)
        assert await found(record, other, "heron") == 1
        async for _ in steps:
            pass
        assert await found(record, other, "heron") == 1


async def test_a_reindex_that_breaks_off_leaves_the_index_in_use(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper:
        await remember(record, keeper, "note", "heron")
        before = await record.index_log.in_use()
        steps = keeper.reindex()
        await anext(steps)
        await steps.aclose()
        assert len(server.collections()) == 2
        assert await record.index_log.in_use() == before
        assert await found(record, keeper, "heron") == 1
        await reindexed(keeper)
        await eventually(lambda: removed(keeper, server))
        assert await found(record, keeper, "heron") == 1


@pytest.mark.parametrize("position", ["3", "999999999"], ids=["before the log", "after the record"])
async def test_an_index_that_the_log_cannot_bring_up_to_date_is_replaced(
    record: Record, conninfo: str, server: QdrantServer, position: str
) -> None:
    async with process(conninfo, server) as keeper:
        async with running(keeper):
            await remember(record, keeper, "note", "heron")
            await eventually(lambda: keeper.vectors.position() is not None)
        await keeper.vectors.upsert(version_of("heron of a past that is none", namespace="default"))
        await record.index_log.begin_at(await record.index_log.position())
        await keeper.vectors.flush(position, generation=keeper.vectors.generation)
        before = keeper.use.name
    async with process(conninfo, server) as keeper, running(keeper):

        async def replaced() -> bool:
            return (await record.index_log.in_use()).name != before

        await eventually(replaced)
        assert await found(record, keeper, "heron") == 1


async def test_the_log_is_cut_only_while_no_index_is_being_filled(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as keeper:
        await remember(record, keeper, "note", "heron")
        position = await record.index_log.position()
        async with record.index_log.alone(REBUILDING) as alone:
            assert alone
            await record.index_log.forget_before(position)
            assert len(await record.index_log.changed_since("0")) == 1
        await record.index_log.forget_before(position)
        assert await record.index_log.changed_since("0") == []
        assert (await record.index_positions.reach()).begins == int(position)


async def test_a_process_that_leaves_the_upkeep_to_others_brings_its_embedder_all_the_same(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with embedder_of(16) as embedder, process(conninfo, server, embedder) as keeper:
        task = asyncio.create_task(keeper.run(upkeep=False))
        await eventually(lambda: keeper.vectors.dimension == 16)
        assert not keeper._upkeep.keeping
        assert keeper.vectors.position() is None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_process_starts_while_the_server_is_down_and_goes_on_when_it_is_there(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    server.faults.extend([503] * 1_000)
    async with process(conninfo, server) as keeper, running(keeper):
        with pytest.raises(Unavailable):
            await found(record, keeper, "heron")
        token, version, points = await accept(record, "note", "heron")
        with pytest.raises(Unavailable):
            await keeper.commit(points, [version], token)
        assert await notes.visible_texts(record) == []
        server.faults.clear()
        # It is tried again after a pause.
        await eventually(lambda: opened(keeper))
        await keeper.commit(points, [version], token)
        assert await found(record, keeper, "heron") == 1
        await eventually(lambda: keeper.vectors.position() is not None)


async def opened(keeper: IndexKeeper) -> bool:
    with suppress(Unavailable):
        await keeper.vectors.ready()
        return True
    return False


async def test_more_searches_than_connections_go_on_with_an_index_that_another_process_made(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server) as one, process(conninfo, server) as other:
        await remember(record, one, "note", "heron")
        search = searcher(record, one)
        await reindexed(other)
        answers = await asyncio.gather(*(search() for _ in range(40)))
        assert [(len(one.passages), one.degraded) for one in answers] == [(1, [])] * 40


async def test_searches_that_wait_for_an_index_leave_the_record_to_others_and_one_of_them_finds_out(
    record: Record, conninfo: str, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_index, "_REST_SECONDS", 3600.0)
    async with process(conninfo, server) as one, process(conninfo, server) as other:
        await remember(record, one, "note", "heron")
        search = searcher(record, one)
        await reindexed(other)
        server.held.clear()
        try:
            before = len(server.requests)
            searches = [asyncio.create_task(search()) for _ in range(40)]
            await eventually(lambda: len(server.requests) > before)
            async with record.index_log.alone(REBUILDING) as free:
                assert free
            await asyncio.gather(*(record.index_log.in_use() for _ in range(12)))
            answers = await asyncio.gather(*searches)
            asked = len(server.requests)
            answers += await asyncio.gather(*(search() for _ in range(40)))
            assert len(server.requests) == asked
        finally:
            server.held.set()
        assert [one.degraded for one in answers] == [["the vector index did not answer"]] * 80


async def test_where_the_server_is_silent_at_the_start_searches_do_not_wait_for_it_one_by_one(
    record: Record, conninfo: str, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_index, "_REST_SECONDS", 3600.0)
    monkeypatch.setattr(qdrant_home, "_TIMEOUT_SECONDS", 1)
    server.held.clear()
    try:
        async with process(conninfo, server) as keeper:
            asked = len(server.requests)
            answers = [await searcher(record, keeper)() for _ in range(5)]
            assert [one.degraded for one in answers] == [["the vector index did not answer"]] * 5
            assert len(server.requests) == asked > 0
    finally:
        server.held.set()


@pytest.mark.parametrize("wrong", ["version", "key"])
async def test_a_process_does_not_start_with_a_server_that_cannot_do(
    record: Record, conninfo: str, server: QdrantServer, wrong: str
) -> None:
    if wrong == "version":
        server.version = "1.18.0"
    else:
        server.api_key = "a key that nobody set"
    with pytest.raises(Rejected) as refused:
        async with process(conninfo, server):
            pass
    assert refused.value.code is Code.SETTINGS_INVALID
