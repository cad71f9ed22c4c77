"""The vector index stays in step with the record when the engine's process dies."""

import asyncio
import os
import random
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import psutil
import pytest

from apex_mcp.errors import Code, Unavailable
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import IndexFilter, IndexPoint, IngestionState
from apex_mcp.stores.record import Record
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from apex_mcp.stores.vectors.edge_home import EdgeHome
from tests.ingestion.embedders import embedder_of, owed_none
from tests.ingestion.keepers import lose_files, running
from tests.record import notes
from tests.record.conftest import conninfo, postgres, record
from tests.stores.index_points import version_of
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record"]

pytestmark = pytest.mark.anyio

EVERYTHING = IndexFilter(namespace="default")
MANY = 40


def engine_of(folder: Path) -> psutil.Process:
    """The process that owns the index in a folder."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            command = process.cmdline()
            if "apex_mcp.stores.vectors.edge_child" in command and command[-1].startswith(str(folder)):
                return process
    raise AssertionError("no engine runs")


def kill_engine(folder: Path) -> None:
    os.kill(engine_of(folder).pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


async def accept(record: Record, key: str, text: str) -> tuple[UUID, UUID, list[IndexPoint]]:
    """Accept and claim a note; its claim, its ingestion and the points of the version it will have."""
    (ingestion,) = await record.ingestions.accept([notes.note(key, text)])
    token, _ = await notes.claim(record)
    (owned,) = await record.ingestions.get([ingestion])
    version = notes.version(owned, token, text)
    [point] = version_of(text, namespace="default", version_id=version.id, document_id=version.document_id)
    return token, ingestion, [replace(point, id=version.chunk_id(0))]


async def remember(record: Record, keeper: IndexKeeper, key: str, text: str) -> None:
    """Write the points, commit, retire; and again where the index was away."""
    token, ingestion, points = await accept(record, key, text)
    with keeper.writing():
        while True:
            try:
                await keeper.vectors.upsert(points)
                break
            except Unavailable:
                continue
        result = await notes.commit(record, token, {ingestion: text})
        with suppress(Unavailable):  # the replay brings it
            await keeper.vectors.retire(result.retired)


async def commit(record: Record, keeper: IndexKeeper, key: str, text: str) -> None:
    """As the steps do it: by the keeper, which follows the index in use."""
    token, ingestion, points = await accept(record, key, text)
    (owned,) = await record.ingestions.get([ingestion])
    result = await keeper.commit(points, [notes.version(owned, token, text)], token)
    assert list(result.states.values()) == [IngestionState.READY]


async def found(keeper: IndexKeeper, word: str) -> int:
    return len(await keeper.vectors.search_words(word, EVERYTHING, limit=1_000))


async def answers(keeper: IndexKeeper) -> bool:
    with suppress(Unavailable):
        return await keeper.vectors.count() >= 0
    return False


async def whole(keeper: IndexKeeper) -> bool:
    return keeper.lacks(keeper.use) is None and keeper.vectors.generation > 0


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_an_engine_killed_amid_writes_loses_nothing_that_was_committed(
    record: Record, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    async with running(keeper):
        await eventually(lambda: keeper.vectors.position() is not None)
        for number in range(5):
            await remember(record, keeper, f"early{number}", "heron early")
        await keeper.flush()
        durable = keeper.vectors.position()

        async def write() -> None:
            for number in range(MANY):
                # Every other replaces one, so that what was current must become past too.
                await remember(record, keeper, f"note{number // 2}", f"heron number{number}")

        writing = asyncio.create_task(write())
        for _ in range(3):
            await asyncio.sleep(rng.random() * 0.2)
            kill_engine(tmp_path)
            await eventually(lambda: answers(keeper))
        await writing
        await eventually(lambda: whole(keeper))
        assert await found(keeper, "early") == 5
        assert await found(keeper, "heron") == 5 + MANY // 2
        for number in range(MANY):
            assert await found(keeper, f"number{number}") == number % 2
        await keeper.flush()
        assert int(keeper.vectors.position() or 0) > int(durable or 0)
    await keeper.close()
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    assert await found(keeper, "heron") == 5 + MANY // 2
    await keeper.close()


async def test_an_index_whose_files_are_gone_says_so_from_the_first_search_on(
    record: Record, tmp_path: Path
) -> None:
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    assert keeper.lacks(keeper.use) is None  # nothing is stored, so nothing is missing
    await remember(record, keeper, "note", "heron")
    await keeper.close()
    shutil.rmtree(tmp_path)
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    assert keeper.lacks(await record.index_log.in_use())
    async with running(keeper):
        await eventually(lambda: keeper.lacks(keeper.use) is None)
        assert await found(keeper, "heron") == 1
    await keeper.close()


async def test_an_index_whose_files_went_under_its_engine_says_so_as_soon_as_that_is_gone(
    record: Record, tmp_path: Path
) -> None:
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    async with running(keeper):
        await remember(record, keeper, "a", "The heron.")
        await eventually(lambda: keeper.vectors.position() is not None)
    kill_engine(tmp_path)
    for folder in await asyncio.to_thread(lambda: list(tmp_path.glob("index*"))):
        lose_files(folder)
    await eventually(lambda: answers(keeper))
    assert await found(keeper, "heron") == 0
    assert keeper.lacks(await record.index_log.in_use()) is not None
    await keeper.vectors.close()


@pytest.mark.skipif(os.name != "posix", reason="files in use can be removed")
async def test_an_index_whose_files_went_under_its_engine_is_made_again_with_the_next_flush(
    record: Record, tmp_path: Path
) -> None:
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None, quiet_seconds=0.2)
    async with running(keeper):
        await remember(record, keeper, "a", "The heron.")
        await eventually(lambda: keeper.vectors.position() is not None)
        await keeper.flush()
        lose_files(tmp_path / keeper.use.name)
        await remember(record, keeper, "b", "The stork.")
        await eventually(lambda: keeper.vectors.generation > 0)
        await eventually(lambda: keeper.lacks(keeper.use) is None)
        assert (await found(keeper, "heron"), await found(keeper, "stork")) == (1, 1)
    await keeper.close()


async def test_an_index_that_cannot_be_closed_any_more_is_replaced_all_the_same(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    await remember(record, keeper, "note", "heron")
    before = keeper.use.name

    async def failing(index: EdgeVectorIndex) -> None:
        await index.abandon()
        raise Unavailable("the disk is full", code=Code.DISK_FULL)

    monkeypatch.setattr(EdgeVectorIndex, "close", failing)
    assert [step async for step in keeper.reindex()] == [("passages", 1)]
    monkeypatch.undo()
    assert keeper.use.name != before
    assert os.listdir(tmp_path) == [keeper.use.name]
    assert await found(keeper, "heron") == 1
    await keeper.close()


async def test_a_version_whose_points_were_lost_before_its_commit_is_written_again_after_it(
    record: Record, tmp_path: Path
) -> None:
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    async with running(keeper):
        await eventually(lambda: keeper.vectors.position() is not None)
        await keeper.flush()
        token, ingestion, points = await accept(record, "slow", "heron slow")
        with keeper.writing():
            await keeper.vectors.upsert(points)
            kill_engine(tmp_path)
            await eventually(lambda: answers(keeper))
            # There is an engine again, as it was flushed; nothing may be noted as complete meanwhile.
            assert await found(keeper, "slow") == 0
            assert "catching up" in (keeper.lacks(keeper.use) or "")
            before = keeper.vectors.position()
            await keeper.flush()
            assert keeper.vectors.position() == before
            await notes.commit(record, token, {ingestion: "heron slow"})
        await eventually(lambda: whole(keeper))
        assert await found(keeper, "slow") == 1
    await keeper.close()


async def test_a_position_is_not_noted_when_writes_before_it_were_lost(
    record: Record, tmp_path: Path
) -> None:
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=None)
    vectors = keeper.vectors
    await vectors.flush("5")
    await vectors.upsert(version_of("heron"))
    engine = engine_of(tmp_path)
    kill_engine(tmp_path)
    await asyncio.to_thread(engine.wait, 30)
    with pytest.raises(Unavailable) as refused:
        await vectors.flush("6", generation=0)
    assert refused.value.code is Code.VECTORS_UNAVAILABLE
    assert (vectors.position(), vectors.generation, await vectors.count()) == ("5", 1, 0)
    await vectors.flush("6", generation=1)
    assert vectors.position() == "6"
    await keeper.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_reindex_for_other_vectors_misses_nothing_that_is_written_meanwhile(
    record: Record, tmp_path: Path, times: int
) -> None:
    async with embedder_of(16) as small, embedder_of(24) as large:
        keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=small)
        async with running(keeper):
            for number in range(10):
                await commit(record, keeper, f"early{number}", f"heron early{number}")
            await eventually(lambda: owed_none(record, small.name))
        await keeper.close()

        keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path), embedder=large)
        assert (keeper.embedder_name, keeper.vectors.dimension) == (small.name, 16)
        written = 0
        async with running(keeper):
            await eventually(lambda: keeper.vectors.position() is not None)
            stop = asyncio.Event()

            async def write() -> None:
                nonlocal written
                while not stop.is_set():
                    await commit(record, keeper, f"late{written}", f"heron late{written}")
                    written += 1
                    assert await found(keeper, "heron") >= 10 + written

            writing = asyncio.create_task(write())
            for _ in range(times):
                assert [step async for step in keeper.reindex()][-1][0] == "passages that wait for vectors"
            at_swap = written
            await eventually(lambda: written > at_swap + 3 or writing.done())
            stop.set()
            await writing
            assert (keeper.embedder_name, keeper.vectors.dimension) == (large.name, 24)
            await eventually(lambda: owed_none(record, large.name))
            assert await found(keeper, "heron") == 10 + written
            query = await large.embed_query("heron")
            hits = await keeper.vectors.search_dense(query, EVERYTHING, limit=1_000)
            assert len(hits) == 10 + written
            await keeper.flush()
        await keeper.close()
        assert [name for name in os.listdir(tmp_path) if name.startswith("index-")] == [keeper.use.name]
