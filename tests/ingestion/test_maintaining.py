"""What maintenance does by itself: all that is past its time goes, all that a crash left behind is mended."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from apex_mcp.errors import Code, Unavailable
from apex_mcp.ingestion import maintenance
from apex_mcp.ingestion.contract import MaintenanceResult
from apex_mcp.ingestion.erasing import Eraser
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.maintenance import Maintenance
from apex_mcp.ingestion.staging import LocalStaging
from apex_mcp.ingestion.verifying import Verifier, of_vectors
from apex_mcp.models import Lane
from apex_mcp.settings import Settings
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.cache.process import ProcessCache
from apex_mcp.stores.record import Record
from apex_mcp.stores.vectors.edge_home import EdgeHome
from tests.ingestion.keepers import running
from tests.ingestion.test_indexing import commit, found
from tests.record import notes
from tests.record.conftest import conninfo, postgres, record
from tests.stores.index_points import version_of
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record"]

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Memory:
    record: Record
    keeper: IndexKeeper
    staging: LocalStaging
    cache: ProcessCache
    bell: Bell

    async def maintain(self, *, erase: bool = False, bundled: bool = True, **given: Any) -> MaintenanceResult:
        settings = Settings(embedder="none", **given)
        verifier = Verifier(
            record=self.record, index=self.keeper, staging=self.staging,
            staging_ttl_seconds=settings.staging_ttl_seconds,
        )  # fmt: skip
        housekeeping = Maintenance(
            settings=settings, record=self.record, index=self.keeper, verifier=verifier, cache=self.cache,
            eraser=Eraser(settings, self.record, self.keeper, bundled=bundled), bell=self.bell,
        )  # fmt: skip
        return await housekeeping.run(erase=erase)


@pytest.fixture
async def memory(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Memory]:
    monkeypatch.setattr(of_vectors, "_PAUSES_SECONDS", (0.01, 0.05))
    keeper = await IndexKeeper.open(record=record, home=EdgeHome(tmp_path / "vectors"), embedder=None)
    async with running(keeper):
        await eventually(lambda: keeper.vectors.position() is not None)
        yield Memory(record, keeper, LocalStaging(tmp_path / "staging"), ProcessCache(), Bell())
    await keeper.close()


async def test_a_memory_as_it_should_be_is_left_alone(memory: Memory) -> None:
    await commit(memory.record, memory.keeper, "note", "heron first")
    await commit(memory.record, memory.keeper, "note", "heron second")
    await memory.record.ingestions.accept([notes.note("waits")])
    assert await memory.maintain(keep_past_days=1) == MaintenanceResult()
    assert await found(memory.keeper, "heron") == 1


async def test_what_a_crash_left_behind_is_mended(memory: Memory, tmp_path: Path) -> None:
    await memory.keeper.vectors.upsert(version_of("nobody's heron", namespace="default"))
    (stuck,) = await memory.record.ingestions.accept([notes.note("stuck")])
    await memory.record.database.fetch_all("DELETE FROM outbox RETURNING 1")
    staged = uuid4()
    await memory.staging.put(staged, "raw", b"heron")
    os.utime(tmp_path / "staging" / str(staged), (time.time() - 3600, time.time() - 3600))
    rung = memory.bell.listener((Lane.FAST, False))
    rung.clear()
    done = await memory.maintain(staging_ttl_seconds=60)
    assert done == MaintenanceResult(stuck=1, staged=1, orphans=1)
    assert rung.is_set()
    assert await found(memory.keeper, "heron") == 0
    assert (await notes.claim(memory.record))[1] == [stuck]
    assert await memory.maintain(staging_ttl_seconds=60) == MaintenanceResult()


async def test_replaced_versions_go_from_the_record_and_the_index_once_they_were_kept_long_enough(
    memory: Memory,
) -> None:
    for text in ("heron first", "heron second"):
        await commit(memory.record, memory.keeper, "note", text)
    await memory.record.database.fetch_all(
        "UPDATE revisions SET committed_at = now() - interval '10 days' RETURNING 1"
    )
    assert (await memory.maintain()).pruned == 0
    assert (await memory.maintain(keep_past_days=11)).pruned == 0
    assert await memory.keeper.vectors.count() == 2
    assert (await memory.maintain(keep_past_days=9)).pruned == 1
    assert await memory.keeper.vectors.count() == 1
    assert await memory.record.database.fetch_all("SELECT title FROM versions") == [{"title": "heron second"}]


async def test_entries_of_the_process_whose_time_is_over_make_room(memory: Memory) -> None:
    await memory.cache.set_many({"a": b"1"}, ttl_seconds=-1)
    await memory.cache.set_many({"b": b"2"}, ttl_seconds=60)
    assert (await memory.maintain()).expired == 1
    assert await memory.cache.get_many(["a", "b"]) == [None, b"2"]


async def test_two_runs_at_once_do_their_work_one_after_the_other(memory: Memory) -> None:
    await memory.record.ingestions.accept([notes.note("stuck")])
    await memory.record.database.fetch_all("DELETE FROM outbox RETURNING 1")
    done = await asyncio.gather(*(memory.maintain() for _ in range(3)))
    assert sum(one.stuck for one in done) == 1
    assert await memory.record.ingestions.unfinished() == 1


async def test_files_are_said_to_be_rewritten_only_where_they_were(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await memory.maintain(erase=True)).rewritten
    assert not (await memory.maintain()).rewritten
    assert not (await memory.maintain(erase=True, bundled=False)).rewritten
    monkeypatch.setattr(maintenance, "_WAIT_SECONDS", 0.1)
    async with memory.record.index_log.alone(maintenance._ALONE):
        assert await memory.maintain(erase=True) == MaintenanceResult()


async def test_a_store_that_is_away_keeps_nothing_from_being_done_in_the_others(
    memory: Memory, tmp_path: Path
) -> None:
    for text in ("heron first", "heron second"):
        await commit(memory.record, memory.keeper, "note", text)
    await memory.record.database.fetch_all(
        "UPDATE revisions SET committed_at = now() - interval '10 days' RETURNING 1"
    )
    # What should be a folder is a file.
    (tmp_path / "staging").write_text("", "utf-8")
    (tmp_path / "staging").chmod(0)
    shared = LocalStaging(tmp_path / "staging", shared=True)
    with pytest.raises(Unavailable) as away:
        await replace(memory, staging=shared).maintain(keep_past_days=1)
    assert away.value.code is Code.STAGING_UNAVAILABLE
    assert await memory.keeper.vectors.count() == 1
