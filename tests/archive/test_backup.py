"""A data folder is backed up while it is in use, and comes back with what was under way, and without what was forgotten."""

import hashlib
import json
import os
import re
import sys
import zipfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import anyio
import psutil
import pytest

from apex_mcp.errors import ApexError, Code
from apex_mcp.models import Lane
from apex_mcp.runtime.backup import settings_without_secrets, write_backup
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.restoring import Restored, restore
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.forgetting import Selection
from tests.record.graphs import look, names
from tests.record.leftovers import forgotten_keys
from tests.record.notes import claim, note, remember, visible_texts
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(path: Path) -> AsyncGenerator[tuple[DataFolder, EmbeddedPostgres, Record]]:
    folder = DataFolder(path).prepare()
    postgres = EmbeddedPostgres(folder)
    try:
        async with open_record(await postgres.start()) as record:
            yield folder, postgres, record
    finally:
        await postgres.stop()


async def back_up(folder: DataFolder, postgres: EmbeddedPostgres, record: Record, file: Path) -> None:
    taken = [
        size
        async for size in write_backup(
            folder,
            record,
            programs=postgres.programs,
            conninfo=postgres.conninfo(),
            path=file,
            force=False,
        )
    ]
    assert taken[-1] == os.stat(file).st_size


async def test_a_folder_comes_back_with_what_was_under_way(tmp_path: Path) -> None:
    async with running(tmp_path / "old") as (folder, postgres, record):
        folder.config_toml.write_text('# mine\nnamespace = "work"\nopenai_api_key = "sk-secret-1"\n', "utf-8")
        await remember(record, "Ann works at Acme", key="a")
        waits, runs = await record.ingestions.accept([
            note("waits", "It waits.", lane=Lane.OWN),
            note("runs", "It runs."),
        ])
        _, claimed = await claim(record)
        assert claimed == [runs]
        staged = folder.staging / str(waits) / "raw"
        staged.parent.mkdir(parents=True)
        staged.write_bytes(b"content")
        (folder.staging / str(waits) / "raw.1234.partial").write_bytes(b"half")
        index = await record.index_log.index_name()
        await back_up(folder, postgres, record, tmp_path / "backup.zip")
        assert folder.secrets().postgres_password.encode() not in (tmp_path / "backup.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "backup.zip") as file:
        assert set(file.namelist()) == {
            "record.dump",
            "config.toml",
            f"staging/{waits}/raw",
            "manifest.json",
        }
    done = await restore(DataFolder(tmp_path / "new"), tmp_path / "backup.zip", replace=False)
    assert (done.aside, done.left_out_settings) == (None, ["openai_api_key"])
    async with running(tmp_path / "new") as (folder, _, record):
        assert await visible_texts(record) == ["Ann works at Acme"]
        assert folder.config_toml.read_text("utf-8") == '# mine\nnamespace = "work"\n'
        assert (folder.staging / str(waits) / "raw").read_bytes() == b"content"
        assert await record.index_log.index_name() != index
        assert (await record.index_positions.reach()).begins == 0
        assert [one.kind for one in await record.forgetting.archives("default", since=None)] == ["backup"]
        assert {one.state for one in await record.ingestions.get([waits, runs])} == {"pending"}
        assert (await claim(record, owner="another"))[1] == [runs]
        assert (await claim(record, owner="another", lane=Lane.OWN))[1] == [waits]
        assert (
            sorted(path.name for path in folder.path.iterdir() if re.match("restor|replac", path.name)) == []
        )


async def test_what_was_forgotten_since_stays_forgotten(tmp_path: Path) -> None:
    async with running(tmp_path / "home") as (folder, postgres, record):
        await remember(record, "Ann works at Acme", key="stays")
        await remember(record, "To be forgotten.", key="goes")
        await remember(record, "To be forgotten, too.", key="goes", namespace="other")
        await back_up(folder, postgres, record, tmp_path / "backup.zip")
        await record.forgetting.forget(Selection(namespace="default", keys=["goes"]))
        (acme,) = await look(record, "Acme")
        await record.forgetting.forget_entity("default", UUID(str(acme.entity_id)))
        await remember(record, "After the backup.", key="late")
    done = await restore(folder, tmp_path / "backup.zip", replace=True)
    assert done.aside is not None
    assert (done.forgotten_again, done.forgetting_known) == (2, True)
    async with running(folder.path) as (_, _, record):
        assert await visible_texts(record) == ["Ann works at Acme"]
        assert await visible_texts(record, "other") == ["To be forgotten, too."]
        assert await look(record, "Acme") == []
        assert names(await look(record, "Ann")) == ["Ann"]
        assert await forgotten_keys(record, "default", ["goes", "stays"]) == {"goes"}
    # What was there is whole, and would start.
    (folder.path / done.aside.name).rename(tmp_path / "aside")
    async with running(tmp_path / "aside") as (_, _, record):
        assert await visible_texts(record) == ["After the backup.", "Ann works at Acme"]


_HOLD = """
import sys
from apex_mcp.runtime.lock import DaemonLock
print(DaemonLock(sys.argv[1]).acquire(give_up=lambda: True, timeout_seconds=0), flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def held(folder: DataFolder) -> AsyncGenerator[None]:
    """The folder's lock is another process's, as when a daemon runs."""
    async with await anyio.open_process([sys.executable, "-c", _HOLD, str(folder.daemon_lock)]) as holder:
        assert holder.stdout is not None
        assert (await holder.stdout.receive()).strip() == b"True"
        yield
        assert holder.stdin is not None
        await holder.stdin.aclose()
        await holder.wait()


async def refused(folder: DataFolder, file: Path, *, replace: bool = False) -> ApexError:
    with pytest.raises(ApexError) as caught:
        await restore(folder, file, replace=replace)
    return caught.value


async def test_what_cannot_be_restored_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    async with running(tmp_path / "home") as (folder, postgres, record):
        await remember(record, "Ann works at Acme")
        await back_up(folder, postgres, record, file)
        with pytest.raises(ApexError) as caught:
            await back_up(folder, postgres, record, file)
        assert caught.value.code == Code.FILE_EXISTS
    assert (await refused(folder, file)).code == Code.FILE_EXISTS

    changed = changes(file, schema_version="9999")
    assert (await refused(folder, changed, replace=True)).code == Code.ARCHIVE_NEWER
    assert (await refused(folder, changes(file, version=2), replace=True)).code == Code.ARCHIVE_NEWER
    assert (await refused(folder, changes(file, format="other"), replace=True)).code == Code.ARCHIVE_INVALID
    cut = tmp_path / "cut.zip"
    cut.write_bytes(file.read_bytes()[:-100])
    assert (await refused(folder, cut, replace=True)).code == Code.ARCHIVE_INVALID
    outside = changes(file, add={"staging/../../evil": b"x"})
    assert (await refused(folder, outside, replace=True)).code == Code.ARCHIVE_INVALID
    broken = changes(file, add={"record.dump": b"PGDMP and no more"})
    assert (await refused(folder, broken, replace=True)).code == Code.ARCHIVE_INVALID

    async with held(folder):
        assert (await refused(folder, file, replace=True)).code == Code.ALREADY_RUNNING
    async with running(folder.path) as (_, _, record):
        assert await visible_texts(record) == ["Ann works at Acme"]
    assert [one.name for one in folder.path.iterdir() if re.match("restor|replac", one.name)] == []


def changes(file: Path, *, add: dict[str, bytes] | None = None, **manifest: object) -> Path:
    """The backup with another manifest, or other members that its manifest tells of."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    told = json.loads(content.pop("manifest.json")) | manifest
    content |= add or {}
    told["members"] = [
        {"name": name, "bytes": len(data), "lines": 0, "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in content.items()
    ]
    made = file.with_name("changed.zip")
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", json.dumps(told))
    return made


async def test_data_that_cannot_be_opened_is_replaced_all_the_same(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "home") as (folder, postgres, record):
        await remember(record, "Ann works at Acme")
        await back_up(folder, postgres, record, tmp_path / "backup.zip")
    (folder.postgres / "PG_VERSION").write_text("9\n", "ascii")
    # As a killed daemon leaves it.
    temporal = EmbeddedTemporal(folder)
    await temporal.start()
    orphan = psutil.Process(temporal.pid)
    done: Restored = await restore(folder, tmp_path / "backup.zip", replace=True)
    assert (done.forgetting_known, done.forgotten_again) == (False, 0)
    await eventually(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
    async with running(folder.path) as (_, _, record):
        assert await visible_texts(record) == ["Ann works at Acme"]


@pytest.mark.parametrize(
    ("text", "kept", "left_out"),
    [
        ("", "", []),
        ('llm = "none"\n', 'llm = "none"\n', []),
        (
            '# a\nneo4j_password = "x y z"  # b\nllm = "none"\n',
            '# a\nllm = "none"\n',
            ["neo4j_password"],
        ),
        ('"redis_url"="redis://u:pass@h"\nllm="none"', 'llm="none"', ["redis_url"]),
        ('qdrant_url = "https://u:pass@h"\n', "", ["qdrant_url"]),
        ('http_token = """\nlong\n"""\nllm = "none"\n', "", ["http_token", "llm"]),
        ('openai_api_key = "sk-1"\n# before: sk-1\n', "", ["openai_api_key"]),
    ],
)
def test_secrets_of_the_settings_stay_behind(
    tmp_path: Path, text: str, kept: str, left_out: list[str]
) -> None:
    (tmp_path / "config.toml").write_text(text, "utf-8")
    assert settings_without_secrets(tmp_path / "config.toml") == (kept, left_out)
