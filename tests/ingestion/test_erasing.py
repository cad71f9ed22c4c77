"""What was forgotten is in no file of the data folder any more, once it was erased."""

import base64
import os
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import psycopg
import pytest

from apex_mcp.errors import Unavailable
from apex_mcp.ingestion.erasing import Eraser
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import ExtractedEntity, ExtractedFact, Extraction
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import ADMIN, EmbeddedPostgres
from apex_mcp.settings import Settings
from apex_mcp.stores.record import Record, erasing, open_record
from apex_mcp.stores.vectors.edge_home import EdgeHome
from tests.ingestion.keepers import running
from tests.record import notes
from tests.stores.index_points import version_of
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

CANARY = "zyzzyva-canary"


@dataclass(frozen=True)
class Memory:
    """A memory in a data folder of its own."""

    folder: DataFolder
    postgres: EmbeddedPostgres
    record: Record
    keeper: IndexKeeper

    def eraser(self, *, bundled: bool = True, **given: Any) -> Eraser:
        settings = Settings(home=self.folder.path, embedder="none", **given)
        return Eraser(settings, self.record, self.keeper, bundled=bundled)

    async def store(self, key: str, text: str, extraction: Extraction | None = None, **more: Any) -> UUID:
        (ingestion_id,) = await self.record.ingestions.accept([
            replace(notes.note(key, text), fingerprint=f"{key} {len(text)}")
        ])
        token, _ = await notes.claim(self.record)
        (owned,) = await self.record.ingestions.get([ingestion_id])
        version = replace(notes.version(owned, token, text), extraction=extraction or Extraction(), **more)
        [point] = version_of(text, namespace="default", version_id=version.id)
        await self.keeper.commit([replace(point, id=version.chunk_id(0))], [version], token)
        return version.id

    async def forget(self, version_id: UUID) -> None:
        """Rows and points go, as they do when something is forgotten."""
        async with self.record.database.transaction() as connection:
            await connection.execute("UPDATE versions SET tombstoned_at = now() WHERE id = %s", (version_id,))
        await self.keeper.vectors.delete_versions([version_id])
        await self.record.purges.delete_rows([version_id])
        async with self.record.database.transaction() as connection:
            await connection.execute("DELETE FROM documents WHERE key LIKE 'secret%'")
            await connection.execute(
                "INSERT INTO forgettings (kind, documents, versions, entities, facts, removed_at) "
                "VALUES ('documents', 1, 1, 2, 1, clock_timestamp())"
            )

    def holding(self, *words: str) -> list[str]:
        """Files of the data folder in which one of these words is to be read."""
        wanted = [word.encode() for word in words]
        files = [path for path in self.folder.path.rglob("*") if path.is_file()]
        return sorted(
            str(path.relative_to(self.folder.path))
            for path in files
            if any(word in content for content in [_bytes(path)] for word in wanted)
        )

    async def checkpoint(self) -> None:
        """Everything is in the files, samples of values among it."""
        async with self.record.database.connection() as connection:
            await connection.execute("ANALYZE")
            await connection.execute("CHECKPOINT")
        await self.keeper.flush()


def _pieces(version_id: UUID) -> tuple[str, str]:
    """Long parts of an id, one of which is to be read also where LZ4 refers to earlier bytes for some of it."""
    return str(version_id)[:8], str(version_id)[-12:]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


@pytest.fixture
async def memory() -> AsyncGenerator[Memory]:
    # A short path: PostgreSQL's socket lies in it.
    with TemporaryDirectory(prefix="apex") as place:
        folder = DataFolder(Path(place) / "home").prepare()
        postgres = EmbeddedPostgres(folder)
        try:
            async with open_record(await postgres.start()) as record:
                keeper = await IndexKeeper.open(record=record, home=EdgeHome(folder.vectors), embedder=None)
                async with running(keeper):
                    await eventually(lambda: keeper.vectors.position() is not None)
                    yield Memory(folder, postgres, record, keeper)
                await keeper.close()
        finally:
            await postgres.stop()


async def store_secret(memory: Memory) -> UUID:
    """The canary in everything that a version leaves, short and long, and the long one not to be compressed."""
    noise = base64.b64encode(random.Random(7).randbytes(60_000)).decode()
    extraction = Extraction(
        entities=(
            ExtractedEntity(
                name=f"{CANARY} Ltd", type="Organization", aliases=(f"{CANARY} alias",), chunks=(0,)
            ),
            ExtractedEntity(name="Ann", type="Person", chunks=(0,)),
        ),
        facts=(
            ExtractedFact(
                subject="Ann",
                predicate="works_at",
                object=f"{CANARY} Ltd",
                sentence=f"Ann is at {CANARY}",
                chunk=0,
            ),
        ),
    )
    return await memory.store(
        "secret",
        f"{CANARY} {noise} {CANARY}-end",
        extraction,
        metadata={"project": CANARY},
        uri=f"apex://{CANARY}",
    )


async def test_no_file_of_the_data_folder_holds_what_was_forgotten_once_it_was_erased(memory: Memory) -> None:
    for number in range(20):
        await memory.store(f"note{number}", f"heron {number}")
    version_id = await store_secret(memory)
    await memory.checkpoint()
    before = memory.holding(CANARY, f"{CANARY}-end")
    assert any(name.startswith("postgres/base/") for name in before), before
    assert any(name.startswith("postgres/pg_wal/") for name in before), before
    assert any(name.startswith("vectors/") for name in memory.holding(*_pieces(version_id)))
    await memory.forget(version_id)
    await memory.checkpoint()
    assert memory.holding(CANARY) != []
    assert await memory.eraser().run(now=True) == 1
    assert memory.holding(CANARY) == []
    assert [name for name in memory.holding(*_pieces(version_id)) if name.startswith("vectors/")] == []
    assert await memory.keeper.vectors.count() == 20
    assert len(await notes.visible_texts(memory.record)) == 20
    assert (await memory.record.erasures.open()).number == 0


async def test_files_that_were_kept_for_writing_ahead_do_not_hold_it_either(memory: Memory) -> None:
    admin = memory.postgres.conninfo(role=ADMIN)
    with psycopg.connect(admin, autocommit=True) as connection:
        # As a cluster was that an earlier version made, which renamed old files for later.
        connection.execute("SELECT pg_switch_wal()")
    version_id = await store_secret(memory)
    await memory.checkpoint()
    wal = memory.folder.postgres / "pg_wal"
    [written] = [name for name in memory.holding(CANARY) if "pg_wal" in name]
    names = sorted(path.name for path in wal.iterdir() if len(path.name) == 24)
    for ahead in (1, 2):
        prepared = wal / f"{int(names[-1], 16) + ahead:024X}"
        prepared.write_bytes((memory.folder.path / written).read_bytes())
        prepared.chmod(0o600)
        _belong_to(prepared, wal / names[-1])
    await memory.forget(version_id)
    assert await memory.eraser().run(now=True) == 1
    assert memory.holding(CANARY) == []


def _belong_to(path: Path, other: Path) -> None:
    if hasattr(os, "chown"):
        os.chown(path, other.stat().st_uid, other.stat().st_gid)


@pytest.mark.parametrize(
    ("forgotten_hours_ago", "busy", "erased"),
    [(1, False, 0), (11, False, 0), (13, True, 0), (13, False, 1), (22.5, True, 1), (30, True, 1)],
)
async def test_it_is_erased_late_but_in_time_and_rather_when_nothing_else_goes_on(
    memory: Memory, forgotten_hours_ago: float, busy: bool, erased: int
) -> None:
    await memory.record.database.fetch_all(
        "INSERT INTO forgettings (kind, documents, versions, entities, facts, forgotten_at, removed_at) "
        "VALUES ('documents', 1, 1, 0, 0, now() - %s, now()), ('documents', 1, 1, 0, 0, now() - interval '3 days', NULL) "
        "RETURNING 1",
        (timedelta(hours=forgotten_hours_ago),),
    )
    if busy:
        await memory.record.ingestions.accept([notes.note()])
    assert await memory.eraser(erase_hours=24).run() == erased
    # What is not removed yet is not erased either.
    assert await memory.record.database.fetch_one(
        "SELECT count(*) AS n FROM forgettings WHERE removed_at IS NULL AND erased_at IS NULL"
    ) == {"n": 1}


async def test_a_read_that_still_sees_it_is_waited_for_and_nothing_is_noted(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "_SNAPSHOTS_SECONDS", 0.3)
    version_id = await store_secret(memory)
    async with memory.record.reader.view("default") as view:
        assert await view.counts()
        await memory.forget(version_id)
        with pytest.raises(Unavailable):
            await memory.eraser().run(now=True)
        assert (await memory.record.erasures.open()).number == 1
    assert await memory.eraser().run(now=True) == 1


async def test_a_table_that_a_backup_reads_is_left_alone_so_that_other_readers_do_not_wait_for_its_end(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "_LOCK_SECONDS", 0.3)
    await memory.forget(await store_secret(memory))
    async with memory.record.database.transaction() as backup:
        await backup.execute("LOCK TABLE versions IN ACCESS SHARE MODE")
        with pytest.raises(Unavailable, match="in the way"):
            await memory.eraser().run(now=True)
        assert await notes.visible_texts(memory.record) == []
        assert (await memory.record.erasures.open()).number == 1
        async with memory.record.database.connection() as one, memory.record.database.connection() as other:
            for connection in (one, other):
                shown = await (await connection.execute("SHOW lock_timeout")).fetchone()
                assert shown == {"lock_timeout": "0"}
    assert await memory.eraser().run(now=True) == 1


async def test_on_a_server_of_the_users_tables_are_vacuumed_by_an_ordinary_role(memory: Memory) -> None:
    with psycopg.connect(memory.postgres.conninfo(role=ADMIN), autocommit=True) as connection:
        connection.execute("REVOKE pg_checkpoint FROM apex")
    await memory.forget(await store_secret(memory))
    assert await memory.eraser(bundled=False).run(now=True) == 1


async def test_a_cluster_of_an_earlier_version_gets_the_rights_at_its_next_start(memory: Memory) -> None:
    with psycopg.connect(memory.postgres.conninfo(role=ADMIN), autocommit=True) as connection:
        connection.execute("REVOKE pg_checkpoint FROM apex")
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM apex")
    again = EmbeddedPostgres(memory.folder)
    await again.start()
    assert again.adopted
    await memory.forget(await store_secret(memory))
    assert await memory.eraser().run(now=True) == 1
