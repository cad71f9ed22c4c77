"""What only the embedded index has: one folder, crashes, and builds in a child process."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from qdrant_edge import EdgeShard, ScrollRequest, UpdateOperation

from apex_mcp.errors import Code, Invariant, Unavailable
from apex_mcp.models import IndexFilter
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from tests.stores import edge_writer
from tests.stores.index_points import MINE, retirement, unit_vector, version_of

pytestmark = pytest.mark.anyio

RECORD = UUID(int=2)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
# Enough for the engine to find a graph worth building: a megabyte of vectors.
DIMENSION, MANY = 128, 2_500


async def open_index(
    folder: Path, *, record_id: UUID = RECORD, embedder: str | None = "test", dimension: int | None = 8
) -> EdgeVectorIndex:
    return await EdgeVectorIndex.open(folder, record_id=record_id, embedder=embedder, dimension=dimension)


async def filled(folder: Path) -> EdgeVectorIndex:
    """An index with one point, durable to position 5, closed."""
    index = await open_index(folder)
    await index.upsert(version_of("heron", dense=[unit_vector(random.Random(1))]))
    await index.flush("5")
    await index.close()
    return index


async def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def shards(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("shard-*")]


async def test_what_was_flushed_is_there_after_reopening(tmp_path: Path) -> None:
    await filled(tmp_path)
    index = await open_index(tmp_path)
    assert (index.position(), await index.count(), index.dimension) == ("5", 1, 8)
    assert len(await index.search_words("heron", MINE, limit=10)) == 1
    await index.close()


@pytest.mark.skipif(os.name != "posix", reason="stops a process with a signal")
async def test_a_read_over_which_the_engine_dies_is_answered_by_the_next_one(tmp_path: Path) -> None:
    await filled(tmp_path)
    index = await open_index(tmp_path)
    [engine] = [
        each
        for each in psutil.Process().children()
        if each.status() != psutil.STATUS_ZOMBIE and "apex_mcp.stores.vectors.edge_child" in each.cmdline()
    ]
    engine.suspend()
    searching = asyncio.create_task(index.search_words("heron", MINE, limit=10))
    await asyncio.sleep(0)
    engine.kill()
    assert len(await searching) == 1
    assert index.generation > 0
    await index.close()


async def test_closing_flushes_without_moving_the_position(tmp_path: Path) -> None:
    await filled(tmp_path)
    index = await open_index(tmp_path)
    await index.upsert(version_of("boat"))
    await index.close()
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == ("5", 2)
    await index.close()


@pytest.mark.parametrize(
    "change",
    [
        {"record_id": uuid4()},
        {"embedder": "another"},
        {"dimension": 16},
    ],
    ids=["record", "embedder", "dimension"],
)
async def test_an_index_of_something_else_starts_again_empty(
    tmp_path: Path, change: dict[str, UUID | str | int]
) -> None:
    await filled(tmp_path)
    index = await open_index(tmp_path, **change)  # pyright: ignore[reportArgumentType]
    assert (index.position(), await index.count()) == (None, 0)
    await index.upsert(version_of("boat"))
    assert len(await index.search_words("boat", MINE, limit=10)) == 1
    await index.close()
    assert len(shards(tmp_path)) == 1


def no_state(folder: Path) -> None:
    (folder / "state.json").unlink()


def torn_state(folder: Path) -> None:
    (folder / "state.json").write_text('{"record_id": "', encoding="utf-8")


def later_format(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    (folder / "state.json").write_text(json.dumps(state | {"format": 99}), encoding="utf-8")


def no_shard(folder: Path) -> None:
    (folder / shards(folder)[0]).rename(folder / "elsewhere")


def damaged_shard(folder: Path) -> None:
    next(folder.glob("shard-*/segments/*/segment.json")).write_text("{", encoding="utf-8")


def shard_that_makes_the_engine_panic(folder: Path) -> None:
    status = next(folder.glob("shard-*/segments/*/vector_storage-words/deleted/status.dat"))
    os.truncate(status, status.stat().st_size // 2)


def shard_without_points(folder: Path) -> None:
    next(folder.glob("shard-*/segments/*/mutable_id_tracker.mappings")).unlink()


@pytest.mark.parametrize(
    "damage",
    [
        no_state,
        torn_state,
        later_format,
        no_shard,
        damaged_shard,
        shard_that_makes_the_engine_panic,
        shard_without_points,
    ],
)
async def test_a_damaged_index_starts_again_empty(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    await filled(tmp_path)
    damage(tmp_path)
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == (None, 0)
    await index.upsert(version_of("boat"))
    await index.flush("6")
    await index.close()
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == ("6", 1)
    await index.close()
    assert len(shards(tmp_path)) == 1


def segment(folder: Path) -> Path:
    [found] = folder.glob("shard-*/segments/*")
    return found


def lose(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        [lost] = segment(folder).glob(name)
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()

    return damage


def halve(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        [file] = segment(folder).glob(name)
        os.truncate(file, file.stat().st_size // 2)

    return damage


def zero(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        [file] = segment(folder).glob(name)
        file.write_bytes(bytes(file.stat().st_size))

    return damage


async def filled_in_every_way(folder: Path) -> EdgeVectorIndex:
    """An index with points that are current and past, of a time, with vectors; durable to position 5."""
    index, rng = await open_index(folder), random.Random(2)
    for number in range(10):
        version = version_of(
            f"heron{number}", "heron", dense=[unit_vector(rng), unit_vector(rng)], document_time=NOW
        )
        await index.upsert(version)
        if number % 2:
            await index.retire([retirement(version, 1, 5)])
    await index.flush("5")
    return index


@pytest.mark.parametrize(
    "damage",
    [
        *(lose(name) for name in ("vector_storage-words", "vector_storage-words/deleted", "payload_storage")),
        *(halve(f"mutable_id_tracker.{which}") for which in ("versions", "mappings")),
        *(zero(f"payload_index/*-{name}/tracker.dat") for name in ("scope-map", "tags-map", "time-numeric")),
        *(zero(f"payload_index/*-{name}-numeric/tracker.dat") for name in ("from", "to")),
        *(zero(f"vector_storage-words/store/{name}.dat") for name in ("page_0", "tracker")),
        zero("vector_storage-dense/vectors/chunk_0.mmap"),
        zero("payload_storage/page_0.dat"),
    ],
)
async def test_an_index_whose_files_lost_something_while_it_was_closed_starts_again_empty(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    await (await filled_in_every_way(tmp_path)).close()
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == ("5", 20)
    await index.close()
    damage(tmp_path)
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == (None, 0)
    await index.close()


async def test_an_index_that_has_fewer_points_than_were_flushed_starts_again_empty(tmp_path: Path) -> None:
    await (await filled_in_every_way(tmp_path)).close()
    shard = EdgeShard.load(str(tmp_path / shards(tmp_path)[0]))
    records, _ = shard.scroll(ScrollRequest(limit=1))
    shard.update(UpdateOperation.delete_points([record.id for record in records]))
    shard.flush()
    shard.close()
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == (None, 0)
    await index.close()


async def test_times_of_two_zones_are_not_taken_for_lost(tmp_path: Path) -> None:
    index = await open_index(tmp_path)
    later = datetime(2026, 11, 29, 8, 24, tzinfo=timezone(timedelta(hours=-4)))
    await index.upsert([
        *version_of("heron", document_time=later),
        *version_of("plover", document_time=datetime(2026, 11, 29, 11, 54, tzinfo=UTC)),
    ])
    await index.flush("5")
    await index.close()
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == ("5", 2)
    await index.close()


async def test_points_that_were_deleted_are_not_taken_for_lost(tmp_path: Path) -> None:
    index = await filled_in_every_way(tmp_path)
    await index.delete_versions(list(await index.version_ids())[:8])
    await index.flush("6")
    await index.abandon()
    index = await open_index(tmp_path)
    assert (index.position(), await index.count()) == ("6", 4)
    await index.close()


@pytest.mark.skipif(os.name != "posix", reason="files in use can be removed")
@pytest.mark.parametrize(
    "damage", [shutil.rmtree, no_state, no_shard, lose("vector_storage-words")], ids=lambda one: one.__name__
)
async def test_an_index_whose_files_go_while_it_is_open_notes_nothing_more_and_starts_again_empty(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "index"
    index = await filled_in_every_way(folder)
    damage(folder)
    await index.upsert(version_of("boat"))
    with pytest.raises(Unavailable):
        await index.flush("6")
    assert index.generation == 1
    assert (await index.ready(), index.position(), await index.count()) == (1, None, 0)
    await index.upsert(version_of("boat"))
    await index.flush("7", generation=1)
    await index.close()
    index = await open_index(folder)
    assert (index.position(), await index.count()) == ("7", 1)
    await index.close()


async def test_an_engine_that_fails_over_its_files_names_what_makes_them_anew(tmp_path: Path) -> None:
    index = await filled_in_every_way(tmp_path)
    page = segment(tmp_path) / "payload_storage" / "page_0.dat"
    with page.open("r+b") as file:
        file.write(bytes(page.stat().st_size))
    with pytest.raises(Unavailable) as refused:
        await index.version_ids()
    assert "`apex-mcp reindex vectors`" in (refused.value.next_step or "")
    await index.abandon()


async def test_an_index_of_words_takes_vectors_later_and_keeps_its_words(tmp_path: Path) -> None:
    vector = unit_vector(random.Random(1))
    index = await open_index(tmp_path, embedder="test", dimension=None)
    [old] = version_of("heron")
    await index.upsert([old])
    await index.flush("5")
    assert await index.search_dense(vector, MINE, limit=10) == []
    with pytest.raises(Invariant):
        await index.upsert(version_of("boat", dense=[vector]))
    await index.enable_dense("test", 8)
    await index.enable_dense("test", 8)
    [new] = version_of("boat", dense=[vector])
    await index.upsert([new])
    assert [found.chunk_id for found in await index.search_dense(vector, MINE, limit=10)] == [new.id]
    await index.close()
    index = await open_index(tmp_path, embedder="test", dimension=None)
    assert (index.position(), index.dimension, await index.count()) == ("5", 8, 2)
    assert len(await index.search_words("heron", MINE, limit=10)) == 1
    with pytest.raises(Invariant):
        await index.enable_dense("another", 8)
    await index.close()
    index = await open_index(tmp_path, embedder=None, dimension=None)
    assert (index.position(), await index.count()) == ("5", 2)
    await index.close()


async def test_vectors_of_another_size_are_our_own_bug(tmp_path: Path) -> None:
    index = await open_index(tmp_path)
    with pytest.raises(Invariant):
        await index.upsert(version_of("heron", dense=[[1.0, 0.0]]))
    with pytest.raises(Invariant):
        await index.search_dense([1.0, 0.0], MINE, limit=10)
    assert await index.count() == 0
    await index.close()


async def test_what_the_engine_and_the_disk_refuse_is_said_as_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(Unavailable) as refused:
        await open_index(tmp_path / "file")
    assert refused.value.code is Code.VECTORS_UNAVAILABLE
    index = await open_index(tmp_path / "vectors")
    await index.close()
    await index.close()
    for use in (index.count(), index.upsert(version_of("heron")), index.search_words("heron", MINE, limit=1)):
        with pytest.raises(Unavailable) as refused:
            await use
        assert refused.value.code is Code.VECTORS_UNAVAILABLE


async def test_writers_and_readers_at_once_lose_nothing(tmp_path: Path) -> None:
    index = await open_index(tmp_path)
    versions = [version_of(*["heron"] * 130, namespace=f"n{number}") for number in range(12)]
    searching = [
        index.search_words("heron", IndexFilter(namespace=f"n{number % 12}"), limit=5) for number in range(60)
    ]
    await asyncio.gather(*(index.upsert(version) for version in versions), *searching, index.flush("1"))
    assert await index.version_ids() == {version[0].version_id for version in versions}
    for number in range(12):
        assert await index.count(namespace=f"n{number}") == 130
    await index.close()


def killed_writer(folder: Path, first: int, rng: random.Random) -> tuple[int, int]:
    """Let a writer run, kill it at some moment; the last number that it applied, and the last that it flushed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stores.edge_writer", str(folder), str(first)],
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        lines: list[str] = []
        stop_after = rng.randint(1, 40)
        for line in writer.stdout:
            lines.append(line)
            if len(lines) >= stop_after and (rng.random() < 0.3 or line.startswith("flushing")):
                break
        writer.kill()
        lines += writer.stdout.readlines()
    said = [line.split() for line in lines if line.endswith("\n")]
    assert said, "the writer could not open the index"
    numbers = {
        word: [int(number) for what, number in said if what == word] for word in ("applied", "flushed")
    }
    return max(numbers["applied"], default=first - 1), max(numbers["flushed"], default=0)


@pytest.mark.slow
async def test_a_killed_process_leaves_what_it_flushed_and_replaying_heals_the_rest(tmp_path: Path) -> None:
    rng = random.Random(11)
    durable = 0
    for _ in range(8):
        applied, flushed = await asyncio.to_thread(killed_writer, tmp_path, durable + 1, rng)
        index = await open_index(tmp_path, record_id=edge_writer.RECORD, dimension=edge_writer.DIMENSION)
        position = int(index.position() or 0)
        # A kill between a flush and the word of it leaves the later position.
        assert max(durable, flushed) <= position <= max(durable, applied)
        for number in range(position + 1, applied + 1):
            await edge_writer.apply(index, number)
        current, past = edge_writer.expected(max(applied, position))
        assert await index.version_ids() == {
            edge_writer.version(number)[0].version_id for number in current | past
        }
        for number in range(1, applied + 1):
            points = edge_writer.version(number)
            found = await index.search_words(f"version{number}", MINE, limit=100)
            assert {one.chunk_id for one in found} == (
                {one.id for one in points} if number in current else set()
            )
            then = IndexFilter(namespace="mine", revision=number)
            found = await index.search_words(f"version{number}", then, limit=100)
            assert len(found) == (len(points) if number in current | past else 0)
            if number in current:
                nearest = await index.search_dense(points[7].dense or [], MINE, limit=1)
                assert [one.chunk_id for one in nearest] == [points[7].id]
        durable = max(applied, position)
        await index.flush(str(durable))
        await index.close()


async def many(folder: Path) -> tuple[EdgeVectorIndex, random.Random]:
    rng = random.Random(12)
    index = await open_index(folder, dimension=DIMENSION)
    for _ in range(10):
        texts = [" ".join(rng.choices("abcdefghij", k=12)) for _ in range(MANY // 10)]
        await index.upsert(version_of(*texts, dense=[unit_vector(rng, DIMENSION) for _ in texts]))
    await index.flush("7")
    return index, rng


def has_graph(folder: Path) -> bool:
    return any(folder.glob("shard-*/segments/*/vector_index-dense/graph.bin"))


@pytest.mark.slow
async def test_a_build_keeps_what_is_written_meanwhile_and_takes_the_place_of_the_old_shard(
    tmp_path: Path,
) -> None:
    index, rng = await many(tmp_path)
    assert not await index.needs_build()
    old, gone, kept = version_of("heron past"), version_of("heron gone"), version_of("heron kept")
    await index.upsert([*old, *gone, *kept])
    before = shards(tmp_path)
    building = asyncio.create_task(index.build())
    await eventually(lambda: len(shards(tmp_path)) == 2)
    vector = unit_vector(rng, DIMENSION)
    new = version_of(*["heron new"] * 250, dense=[vector] * 250)
    await index.upsert(new)
    await index.retire([retirement(old, 1, 2)])
    await index.delete_versions([gone[0].version_id])
    current = {one.chunk_id for one in await index.search_words("heron", MINE, limit=1_000)}
    assert current == {one.id for one in [*kept, *new]}
    assert not building.done()
    await building
    for _ in range(2):
        assert index.position() == "7"
        assert await index.count() == MANY + 252
        found = await index.search_words("heron", MINE, limit=1_000)
        assert {one.chunk_id for one in found} == current
        then = await index.search_words("past", IndexFilter(namespace="mine", revision=1), limit=10)
        assert [one.chunk_id for one in then] == [old[0].id]
        nearest = await index.search_dense(vector, MINE, limit=250)
        assert {one.chunk_id for one in nearest} == {one.id for one in new}
        assert has_graph(tmp_path)
        assert len(shards(tmp_path)) == 1
        assert shards(tmp_path) != before
        await index.close()
        index = await open_index(tmp_path, dimension=DIMENSION)
    await index.close()


@pytest.mark.slow
async def test_a_build_that_is_cancelled_or_cannot_start_leaves_the_index_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, rng = await many(tmp_path)
    before = shards(tmp_path)
    building = asyncio.create_task(index.build())
    await eventually(lambda: len(builders(tmp_path)) == 2)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await eventually(lambda: not builders(tmp_path))
    assert shards(tmp_path) == before
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "no python here"))
        with pytest.raises(Unavailable):
            await index.build()
    assert shards(tmp_path) == before
    await index.upsert(version_of("heron", dense=[unit_vector(rng, DIMENSION)]))
    await index.flush("8")
    building = asyncio.create_task(index.build())
    await eventually(lambda: len(builders(tmp_path)) == 2)
    await index.close()
    with pytest.raises(asyncio.CancelledError):
        await building
    index = await open_index(tmp_path, dimension=DIMENSION)
    assert (index.position(), await index.count()) == ("8", MANY + 1)
    await index.close()


_BUILDING = """
import asyncio, sys
from pathlib import Path
from tests.stores.test_edge import many

async def main():
    index, _ = await many(Path(sys.argv[1]))
    await index.build()

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_build_ends_with_the_process_that_wanted_it_and_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _BUILDING, str(tmp_path))
    await eventually(lambda: len(builders(tmp_path)) == 2)
    process.kill()
    await process.wait()
    await eventually(lambda: not builders(tmp_path))
    index = await open_index(tmp_path, dimension=DIMENSION)
    assert (index.position(), await index.count()) == ("7", MANY)
    assert len(shards(tmp_path)) == 1
    await index.close()


def builders(folder: Path) -> list[psutil.Process]:
    """The processes that build an index: the watcher and the builder."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if "apex_mcp.stores.vectors.edge_build" in command and any(
                str(folder) in part for part in command
            ):
                found.append(process)
    return found
