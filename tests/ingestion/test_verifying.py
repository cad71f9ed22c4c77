"""Each difference between the record and what is made from it is named, mended, and gone."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from apex_mcp.errors import Code, Unavailable
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.staging import LocalStaging
from apex_mcp.ingestion.verifying import Finding, Verifier, of_searches, of_vectors
from apex_mcp.models import Candidate, IndexFilter, IndexPoint, IngestionState, PointId, Retirement
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.import_course import IMPORTING
from apex_mcp.stores.vectors import layout
from apex_mcp.stores.vectors.edge_home import EdgeHome
from apex_mcp.stores.vectors.home import IndexHome
from apex_mcp.stores.vectors.qdrant_home import QdrantHome, qdrant_client
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.embedders import embedder_of, owed_none
from tests.ingestion.keepers import lose_files, running
from tests.record import notes
from tests.record.conftest import conninfo, postgres, record
from tests.stores.foreign_points import foreign_payloads, put_foreign
from tests.stores.index_points import version_of
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record"]

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_vectors, "_PAUSES_SECONDS", (0.01, 0.05, 0.1))


@dataclass(frozen=True)
class Memory:
    """A record with an index, and what compares the two."""

    record: Record
    keeper: IndexKeeper
    staging: LocalStaging
    verifier: Verifier

    async def differing(self, *, repair: bool = False) -> dict[str, tuple[int, int]]:
        """What differed, and how much of it still does."""
        found = await self.findings(repair=repair)
        return {one.what: (one.differs, one.left) for one in found if one.differs}

    async def findings(self, *, repair: bool = False) -> Sequence[Finding]:
        return [one async for one in self.verifier.run(repair=repair)]

    async def store(self, key: str, *texts: str) -> list[UUID]:
        """Versions of a note, one after the other, as the steps write them."""
        made: list[UUID] = []
        for text in texts:
            (ingestion_id,) = await self.record.ingestions.accept([notes.note(key, text)])
            token, _ = await notes.claim(self.record)
            (owned,) = await self.record.ingestions.get([ingestion_id])
            version = notes.version(owned, token, text)
            [point] = version_of(text, namespace="default", version_id=version.id)
            point = replace(point, id=version.chunk_id(0), document_id=version.document_id)
            result = await self.keeper.commit([point], [version], token)
            assert list(result.states.values()) == [IngestionState.READY]
            made.append(version.id)
        return made


@asynccontextmanager
async def home_of(kind: str, record: Record, folder: Path) -> AsyncGenerator[IndexHome]:
    if kind == "edge":
        yield EdgeHome(folder / "vectors")
        return
    with QdrantServer() as server:
        async with qdrant_client(server.url, None) as client:
            yield QdrantHome(client, (await record.index_log.identity()).record_id)


@pytest.fixture(params=["edge", "qdrant"])
async def memory(request: pytest.FixtureRequest, record: Record, tmp_path: Path) -> AsyncGenerator[Memory]:
    async with home_of(request.param, record, tmp_path) as home, embedder_of(16) as embedder:
        keeper = await IndexKeeper.open(record=record, home=home, embedder=embedder, quiet_seconds=0.2)
        staging = LocalStaging(tmp_path / "staging")
        verifier = Verifier(record=record, index=keeper, staging=staging, staging_ttl_seconds=0)
        async with running(keeper):
            await eventually(lambda: keeper.vectors.position() is not None)
            yield Memory(record, keeper, staging, verifier)
        await keeper.close()


async def test_a_memory_as_it_should_be_is_clean_and_everything_is_named(memory: Memory) -> None:
    await memory.store("note", "heron first", "heron second")
    await memory.store("other", "stork. Ann works at Acme")
    found = await memory.findings()
    assert [one for one in found if one.differs or one.left] == []
    assert list(dict.fromkeys(one.store for one in found)) == [
        "record", "vectors", "graph", "staging", "cache",
    ]  # fmt: skip
    compared = {one.what: one.compared for one in found}
    assert compared[of_vectors.MISSING] == compared[of_vectors.ORPHANS] == 3
    assert compared["facts have a source"] == 1


async def lose_points(memory: Memory, past: UUID, current: UUID) -> None:
    await memory.keeper.vectors.delete_versions([current])


async def leave_orphans(memory: Memory, past: UUID, current: UUID) -> None:
    await memory.keeper.vectors.upsert(version_of("nobody's heron", namespace="default"))


async def add_points(memory: Memory, past: UUID, current: UUID) -> None:
    points = version_of("heron", namespace="default", version_id=current)
    await memory.keeper.vectors.upsert(points)


async def mark_as_past(memory: Memory, past: UUID, current: UUID) -> None:
    retirement = Retirement(version_id=current, revision_from=1, revision_to=9)
    await memory.keeper.vectors.retire([retirement])


async def mark_as_current(memory: Memory, past: UUID, current: UUID) -> None:
    points = await memory.record.index_log.points([past], memory.keeper.embedder_name)
    await memory.keeper.vectors.upsert(points)


async def lose_vectors(memory: Memory, past: UUID, current: UUID) -> None:
    points = await memory.record.index_log.points([current], None)
    await memory.keeper.vectors.upsert(points)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lose_points, of_vectors.MISSING),
        (leave_orphans, of_vectors.ORPHANS),
        (add_points, of_vectors.EXTRA),
        (mark_as_past, of_vectors.MARKS),
        (mark_as_current, of_vectors.MARKS),
        (lose_vectors, of_vectors.DENSE),
    ],
)
async def test_what_the_index_has_or_lacks_is_named_and_mended_without_computing_anything(
    memory: Memory, spoil: Callable[[Memory, UUID, UUID], Awaitable[None]], what: str
) -> None:
    past, current = await memory.store("note", "heron first", "heron second")
    embedder = memory.keeper.embedder_name
    assert embedder is not None
    await eventually(lambda: owed_none(memory.record, embedder))
    await memory.keeper.flush()
    assert await memory.differing() == {}
    await spoil(memory, past, current)
    assert await memory.differing() == {what: (1, 1)}
    assert await memory.differing(repair=True) == {what: (1, 0)}
    assert await memory.differing() == {}


async def test_points_that_are_as_no_versions_are_named_and_removed_and_what_they_stand_for_is_written_again(
    memory: Memory,
) -> None:
    _, current = await memory.store("note", "heron first", "heron second")
    embedder = memory.keeper.embedder_name
    assert embedder is not None
    await eventually(lambda: owed_none(memory.record, embedder))
    await memory.keeper.flush()
    [real] = await memory.record.index_log.points([current], None)
    payloads = list(foreign_payloads(real).values())
    points: dict[PointId, dict[str, Any] | None] = {uuid4(): one for one in payloads}
    await put_foreign(memory.keeper.vectors, {**points, 5: {"hello": "world"}, real.id: {"hello": "world"}})
    foreign = len(payloads) + 2
    found = await memory.findings()
    assert {one.what: (one.differs, one.left) for one in found if one.differs} == {
        of_vectors.MISSING: (1, 1), of_vectors.ORPHANS: (foreign, foreign),
    }  # fmt: skip
    assert await memory.differing(repair=True) == {
        of_vectors.MISSING: (1, 0), of_vectors.ORPHANS: (foreign, 0),
    }  # fmt: skip
    assert await memory.differing() == {}
    assert await memory.keeper.vectors.count() == 2


async def forget_words(memory: Memory, point: IndexPoint, vector: list[float]) -> None:
    """Have the index hold a point as it should be, but for its words."""
    await put_foreign(memory.keeper.vectors, {point.id: layout.payload(point)}, {layout.DENSE: vector})


async def test_a_passage_that_no_search_finds_is_named_and_another_index_takes_the_place_of_this_one(
    memory: Memory,
) -> None:
    _, current = await memory.store("note", "heron first", "heron second")
    await memory.store("stops", "the of and")
    await memory.store("other", "stork")
    embedder = memory.keeper.embedder_name
    assert embedder is not None
    await eventually(lambda: owed_none(memory.record, embedder))
    await memory.keeper.flush()
    assert await memory.differing() == {}
    name = memory.keeper.use.name
    [point] = await memory.record.index_log.points([current], embedder)
    assert point.dense is not None
    await forget_words(memory, point, point.dense)
    where = IndexFilter(namespace="default")
    assert await memory.keeper.vectors.search_words("heron", where, limit=5) == []
    assert await memory.differing() == {of_vectors.FOUND: (1, 1)}
    assert memory.keeper.use.name == name
    assert await memory.differing(repair=True) == {of_vectors.FOUND: (1, 0)}
    assert memory.keeper.use.name != name
    assert len(await memory.keeper.vectors.search_words("heron", where, limit=5)) == 1
    assert await memory.differing() == {}


async def test_a_search_by_words_that_misses_a_passage_is_told_from_one_that_finds_too_many(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    await memory.store("note", "heron first", "heron second")
    for number in range(4):
        await memory.store(f"other{number}", "heron second")
    monkeypatch.setattr(of_searches, "_DEPTH", 2)
    assert await memory.differing() == {}
    vectors = memory.keeper.vectors

    async def nothing(*_: object, **__: object) -> list[Candidate]:
        return []

    monkeypatch.setattr(type(vectors), "search_words", nothing)
    assert await memory.differing() == {of_vectors.FOUND: (6, 6)}


@pytest.mark.skipif(os.name != "posix", reason="files in use can be removed")
async def test_an_index_whose_files_were_removed_while_it_is_open_is_named_and_made_anew(
    record: Record, tmp_path: Path
) -> None:
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path / "vectors"), embedder=None)
    staging = LocalStaging(tmp_path / "staging")
    verifier = Verifier(record=record, index=keeper, staging=staging, staging_ttl_seconds=0)
    memory = Memory(record, keeper, staging, verifier)
    async with running(keeper):
        await eventually(lambda: keeper.vectors.position() is not None)
        await memory.store("note", "heron first", "heron second")
    # Nobody writes to it now: upkeep would notice with its next flush.
    await keeper.flush()
    lose_files(tmp_path / "vectors" / keeper.use.name)
    assert await memory.differing() == {of_vectors.FILES: (1, 1)}
    assert await memory.differing(repair=True) == {of_vectors.FILES: (1, 0)}
    assert await memory.differing() == {}
    assert len(await keeper.vectors.search_words("heron", IndexFilter(namespace="default"), limit=5)) == 1
    await keeper.close()


async def test_maintenance_removes_points_that_are_as_no_versions_are(memory: Memory) -> None:
    await memory.store("note", "heron")
    await memory.keeper.flush()
    await put_foreign(memory.keeper.vectors, {uuid4(): {"hello": "world"}, 5: None})
    await memory.keeper.vectors.upsert(version_of("nobody's heron", namespace="default"))
    assert await memory.verifier.remove_orphans() == 3
    assert await memory.differing() == {}


@dataclass(frozen=True)
class Failing:
    """What cannot be compared to its end."""

    error: Exception

    async def run(self, *, repair: bool) -> AsyncGenerator[Finding]:
        yield Finding(store="vectors", what="this holds", compared=1)
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            Unavailable("it does not answer", code=Code.VECTORS_UNAVAILABLE),
            "vectors_unavailable: it does not answer",
        ),
        (KeyError("heron"), "unexpected error (KeyError)"),
    ],
)
async def test_a_store_that_cannot_be_compared_is_a_finding_and_hides_no_others(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    await memory.store("note", "heron")
    monkeypatch.setattr(memory.verifier, "vectors", Failing(error))
    found = await memory.findings()
    [failed] = [one for one in found if one.left]
    assert (failed.store, failed.differs) == ("vectors", 1)
    assert failed.note.startswith(reason)
    assert "heron" not in failed.note
    assert "this holds" in [one.what for one in found]
    assert list(dict.fromkeys(one.store for one in found)) == [
        "record", "vectors", "graph", "staging", "cache",
    ]  # fmt: skip


async def test_what_is_written_but_not_committed_yet_and_what_a_purge_will_remove_are_no_orphans(
    memory: Memory,
) -> None:
    (ingestion_id,) = await memory.record.ingestions.accept([notes.note("note", "heron")])
    token, _ = await notes.claim(memory.record)
    (owned,) = await memory.record.ingestions.get([ingestion_id])
    version = notes.version(owned, token, "heron")
    points = version_of("heron", namespace="default", version_id=version.id)
    await memory.keeper.vectors.upsert(points)
    assert await memory.differing() == {}
    await memory.record.outbox.release([ingestion_id], claim=token)
    assert await memory.differing() == {of_vectors.ORPHANS: (1, 1)}
    await memory.keeper.purge_run(owned.document_id, ingestion_id, token)
    # A paused step wakes up: its second removal is still to come.
    await memory.keeper.vectors.upsert(points)
    assert await memory.differing() == {}


async def test_what_is_of_nobody_may_be_an_imports_while_there_is_one(memory: Memory) -> None:
    await memory.keeper.vectors.upsert(version_of("heron", namespace="default"))
    async with memory.record.index_log.alone(IMPORTING) as alone:
        assert alone
        assert await memory.differing(repair=True) == {}
        assert await memory.verifier.remove_orphans() == 0
        assert await memory.keeper.vectors.count() == 1
    assert await memory.differing() == {of_vectors.ORPHANS: (1, 1)}
    assert await memory.verifier.remove_orphans() == 1
    assert await memory.keeper.vectors.count() == 0


async def test_nothing_differs_while_notes_are_replaced_all_the_time(memory: Memory) -> None:
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            await memory.store(f"note{number % 5}", f"heron {number}")
            number += 1

    writing = asyncio.create_task(write())
    for _ in range(5):
        assert await memory.differing() == {}
        assert await memory.verifier.vectors.remove_orphans() == 0
    stop.set()
    await writing
    assert await memory.differing() == {}


async def test_content_that_waits_for_nobody_is_named_and_removed_once_its_time_is_over(
    memory: Memory, tmp_path: Path
) -> None:
    (waiting,) = await memory.record.ingestions.accept([notes.note("note", "heron")])
    unknown, just_now = uuid4(), uuid4()
    for one in (waiting, unknown, just_now):
        await memory.staging.put(one, "raw", b"heron")
    long_ago = time.time() - 3 * 3600
    for one in (waiting, unknown):
        os.utime(tmp_path / "staging" / str(one), (long_ago, long_ago))
    what = "staged content is of ingestions that are not over, or wait for a retry"
    assert await memory.differing() == {what: (1, 1)}
    assert await memory.differing(repair=True) == {what: (1, 0)}
    assert await memory.staging.get(unknown, "raw") is None
    assert await memory.staging.get(waiting, "raw") == await memory.staging.get(just_now, "raw") == b"heron"


async def test_what_a_last_step_that_was_killed_left_staged_is_named_and_removed(memory: Memory) -> None:
    await memory.store("note", "heron")
    (done,) = await memory.record.ingestions.recent("default", state=None, limit=1, before=None)
    await memory.staging.put(done.id, "raw", b"heron")
    assert await memory.differing() == {}
    async with memory.record.database.connection() as connection:
        await connection.execute("UPDATE ingestions SET finished_at = finished_at - interval '3 hours'")
    what = "staged content is of ingestions that are not over, or wait for a retry"
    assert await memory.differing(repair=True) == {what: (1, 0)}
    assert await memory.staging.get(done.id, "raw") is None


async def test_what_maintenance_will_remove_soon_is_no_finding(memory: Memory) -> None:
    await memory.store("note", "heron")
    (done,) = await memory.record.ingestions.recent("default", state=None, limit=1, before=None)
    await memory.staging.put(done.id, "raw", b"heron")
    async with memory.record.database.connection() as connection:
        await connection.execute("UPDATE ingestions SET finished_at = finished_at - interval '2 minutes'")
    assert await memory.differing() == {}
    assert await memory.verifier.staging.remove() == 1
