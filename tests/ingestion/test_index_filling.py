"""An index that is being filled when its process ends: the next one goes on where it was."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from apex_mcp.errors import Code, Unavailable
from apex_mcp.ingestion import background, index_filling, index_upkeep
from apex_mcp.ingestion.current_index import CurrentIndex
from apex_mcp.ingestion.index_replay import Replay
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.forgetting import Selection
from apex_mcp.stores.record.index_fillings import IndexFillings
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from apex_mcp.stores.vectors.edge_home import EdgeHome
from apex_mcp.stores.vectors.home import KeptIndex
from apex_mcp.stores.vectors.qdrant_server import QdrantVectorIndex
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.keepers import found, lose_files, process, reindexed, remember, running, server
from tests.record.conftest import conninfo, postgres, record
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record", "server"]

pytestmark = pytest.mark.anyio

MANY = 9
PAGE = 2

OpenKeeper = Callable[[], AbstractAsyncContextManager[IndexKeeper]]


@asynccontextmanager
async def embedded(conninfo: str, folder: Path) -> AsyncGenerator[IndexKeeper]:
    async with open_record(conninfo) as record:
        keeper = await IndexKeeper.open(
            record=record, home=EdgeHome(folder), embedder=None, quiet_seconds=0.1
        )
        try:
            yield keeper
        finally:
            await keeper.vectors.close()


@pytest.fixture(params=["embedded", "server"])
def open_keeper(
    request: pytest.FixtureRequest, conninfo: str, tmp_path: Path, server: QdrantServer
) -> OpenKeeper:
    if request.param == "embedded":
        return partial(embedded, conninfo, tmp_path)
    return partial(process, conninfo, server)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_filling, "_VERSIONS_AT_ONCE", PAGE)
    monkeypatch.setattr(index_filling, "_NOTED_EVERY_SECONDS", 0.0)


async def remember_many(record: Record, keeper: IndexKeeper) -> None:
    for number in range(MANY):
        await remember(record, keeper, f"note{number}", f"heron number{number}")


async def interrupted(keeper: IndexKeeper, pages: int) -> None:
    """A reindex that ends after so many pages."""
    async with aclosing(keeper.reindex()) as steps:
        for _ in range(pages):
            await anext(steps)


async def test_an_interrupted_reindex_goes_on_with_what_it_lacked(
    record: Record, open_keeper: OpenKeeper
) -> None:
    async with open_keeper() as keeper:
        await remember_many(record, keeper)
        before = keeper.use.name
        await interrupted(keeper, pages=3)
        assert keeper.use.name == before
        # While nobody goes on with it.
        await remember(record, keeper, "note0", "egret number0")
        await remember(record, keeper, "late", "heron late")
        await keeper.flush()
    async with open_keeper() as keeper:
        done = [count for what, count in await reindexed(keeper) if what == "passages"]
        assert done[0] > 3 * PAGE
        assert keeper.use.name != before
        assert await record.index_fillings.begun() is None
        assert await found(record, keeper, "heron") == MANY
        assert await found(record, keeper, "egret") == 1
        # The second version of note0, and the first one as a past one.
        assert await keeper.vectors.count() == MANY + 2


async def test_a_reindex_that_was_interrupted_in_every_page_ends_all_the_same(
    record: Record, open_keeper: OpenKeeper
) -> None:
    async with open_keeper() as keeper:
        await remember_many(record, keeper)
    for _ in range(MANY // PAGE):
        async with open_keeper() as keeper:
            await interrupted(keeper, pages=1)
    async with open_keeper() as keeper:
        done = [count for what, count in await reindexed(keeper) if what == "passages"]
        assert done == [MANY]
        assert await found(record, keeper, "heron") == MANY


async def test_what_is_forgotten_is_not_kept_in_an_index_that_was_not_filled_to_its_end(
    record: Record, open_keeper: OpenKeeper
) -> None:
    async with open_keeper() as keeper:
        await remember_many(record, keeper)
        await interrupted(keeper, pages=3)
        assert await record.index_fillings.begun()
        async with running(keeper):
            await record.forgetting.forget(Selection(namespace="default", whole=True))

            async def given_up() -> bool:
                return await record.index_fillings.begun() is None

            await eventually(given_up)
        done = [count for what, count in await reindexed(keeper) if what == "passages"]
        assert done in ([], [0])
        assert await keeper.vectors.count() == 0


async def test_what_an_interrupted_filling_left_on_a_server_is_gone_before_it_is_said_that_all_is(
    record: Record, conninfo: str, server: QdrantServer
) -> None:
    async with process(conninfo, server, grace_seconds=3600) as keeper:
        await remember_many(record, keeper)
        async with running(keeper):
            await eventually(lambda: keeper.vectors.position() is not None)
        await interrupted(keeper, pages=3)
        assert len(server.collections()) == 2
        async with running(keeper):
            await record.forgetting.forget(Selection(namespace="default", whole=True))

            async def removed() -> bool:
                row = await record.database.fetch_one(
                    "SELECT every(removed_at IS NOT NULL) AS all FROM forgettings"
                )
                return bool(row and row["all"])

            await eventually(removed)
            assert len(server.collections()) == 1


async def test_an_index_that_was_lost_is_filled_though_each_try_ends_after_a_page(
    record: Record, conninfo: str, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(conninfo, server) as keeper, running(keeper):
        await remember_many(record, keeper)
        await eventually(lambda: keeper.vectors.position() is not None)
    noted = QdrantVectorIndex.note_filled

    async def end_of_the_try(
        index: QdrantVectorIndex, version_id: UUID, *, start: str, generation: int
    ) -> None:
        await noted(index, version_id, start=start, generation=generation)
        raise Unavailable("the process ends", code=Code.VECTORS_UNAVAILABLE)

    monkeypatch.setattr(QdrantVectorIndex, "note_filled", end_of_the_try)
    for module in (background, index_upkeep):
        monkeypatch.setattr(module, "AFTER_FAILURE_SECONDS", 0.02)
    lose(server)
    async with process(conninfo, server) as keeper, running(keeper):
        await eventually(lambda: keeper.vectors.position() is not None)
        assert await found(record, keeper, "heron") == MANY
        assert await record.index_fillings.begun() is None


def lose(server: QdrantServer) -> None:
    [collection] = server.collections()
    server.drop(collection)


def lose_indexes(folder: Path) -> None:
    for index in folder.glob("index*"):
        lose_files(index)


async def test_the_log_is_cut_again_though_a_process_ended_before_it_noted_the_end_of_a_filling(
    record: Record, conninfo: str, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end_of_the_process(*_: object) -> None:
        raise Unavailable("the process ends", code=Code.RECORD_UNAVAILABLE)

    async with process(conninfo, server) as keeper, running(keeper):
        await remember_many(record, keeper)
        await eventually(lambda: keeper.vectors.position() is not None)
    lose(server)
    with monkeypatch.context() as patch:
        patch.setattr(IndexFillings, "end", end_of_the_process)
        async with process(conninfo, server) as keeper, running(keeper):
            await eventually(lambda: keeper.vectors.position() is not None)
        assert await record.index_fillings.begun()

    async def over() -> bool:
        return await record.index_fillings.begun() is None

    async with process(conninfo, server) as keeper, running(keeper):
        await eventually(over)


async def test_what_is_forgotten_while_an_interrupted_reindex_is_taken_up_again_is_not_in_the_new_index(
    record: Record, conninfo: str, server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(conninfo, server) as keeper:
        async with running(keeper):
            await remember_many(record, keeper)
            await eventually(lambda: keeper.vectors.position() is not None)
        await interrupted(keeper, pages=4)
        await record.forgetting.forget(Selection(namespace="default", whole=True))
        opened = CurrentIndex.open_index

        async def late(index: CurrentIndex, *arguments: Any, **named: Any) -> KeptIndex:
            with monkeypatch.context() as patch:
                patch.setattr(CurrentIndex, "open_index", opened)
                await keeper.purge(await record.purges.due())
            return await opened(index, *arguments, **named)

        monkeypatch.setattr(CurrentIndex, "open_index", late)
        await reindexed(keeper)
        assert await keeper.vectors.count() == 0


async def test_how_far_an_earlier_filling_came_says_nothing_of_a_later_one(
    record: Record, conninfo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted, tries, ended = EdgeVectorIndex.note_filled, 0, False
    for module in (background, index_upkeep):
        monkeypatch.setattr(module, "AFTER_FAILURE_SECONDS", 0.02)

    async def end_of_the_try(
        index: EdgeVectorIndex, version_id: UUID, *, start: str, generation: int
    ) -> None:
        nonlocal tries
        await noted(index, version_id, start=start, generation=generation)
        tries += 1
        raise Unavailable("the record is away", code=Code.VECTORS_UNAVAILABLE)

    async def killed(*_: object) -> int:
        nonlocal ended
        ended = True
        raise Unavailable("the process ends", code=Code.VECTORS_UNAVAILABLE)

    async with embedded(conninfo, tmp_path) as keeper, running(keeper):
        await remember_many(record, keeper)
        await eventually(lambda: keeper.vectors.position() is not None)
    lose_indexes(tmp_path)
    with suppress(Unavailable):
        async with embedded(conninfo, tmp_path) as keeper:
            with monkeypatch.context() as patch:
                patch.setattr(EdgeVectorIndex, "note_filled", end_of_the_try)
                async with running(keeper):
                    await eventually(lambda: tries >= 3)
            # Another filling takes the place of that one in the record.
            await interrupted(keeper, pages=1)
            for number in range(MANY):
                await remember(record, keeper, f"late{number}", f"heron late{number}")
            await keeper.vectors.abandon()
    with suppress(Unavailable), monkeypatch.context() as patch:
        patch.setattr(Replay, "write", killed)
        async with embedded(conninfo, tmp_path) as keeper:
            async with running(keeper):
                await eventually(lambda: ended)
            await keeper.vectors.abandon()
    async with embedded(conninfo, tmp_path) as keeper, running(keeper):
        await eventually(lambda: keeper.vectors.position() is not None)
        assert await found(record, keeper, "heron") == 2 * MANY


async def test_a_filling_that_nobody_goes_on_with_is_given_up(
    record: Record, open_keeper: OpenKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_upkeep, "_GIVEN_UP_AFTER", timedelta(0))

    async def given_up() -> bool:
        return await record.index_fillings.begun() is None

    async with open_keeper() as keeper:
        await remember_many(record, keeper)
        await interrupted(keeper, pages=3)
        assert not await given_up()
        async with running(keeper):
            await eventually(given_up)
