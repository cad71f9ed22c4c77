import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apex_mcp.runtime.home import DataFolder, read_json, write_json
from apex_mcp.runtime.orphans import end_orphans
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal
from tests.runtime.services import is_dead, start_and_kill_owner

pytestmark = pytest.mark.anyio

_HOLDER = (
    "import sys; from apex_mcp.runtime.lock import DaemonLock; "
    "print(DaemonLock(sys.argv[1]).acquire(give_up=lambda: True, timeout_seconds=0), flush=True); input()"
)


@contextmanager
def in_use(folder: DataFolder) -> Generator[None]:
    """Another process has the folder, as a daemon does from its first moment on."""
    command = [sys.executable, "-c", _HOLDER, str(folder.daemon_lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        yield
        holder.communicate("\n")


def pid_of(folder: DataFolder, name: str) -> int:
    record = read_json(folder.child_json(name))
    assert record is not None
    return int(record["pid"])


async def test_what_a_killed_owner_left_is_ended_and_what_is_another_folders_or_programs_is_not(
    tmp_path: Path,
) -> None:
    folder, other = (DataFolder(tmp_path / name).prepare() for name in ("home", "home-other"))
    start_and_kill_owner("postgres", "EmbeddedPostgres", folder.path)
    for one in (folder, other):
        start_and_kill_owner("temporal", "EmbeddedTemporal", one.path)
    write_json(folder.daemon_json, {"pid": os.getpid(), "port": 1})
    orphans = [pid_of(folder, name) for name in ("postgres", "temporal")]
    write_json(folder.child_json("temporal"), {"pid": os.getpid()})
    try:
        assert await end_orphans(folder) == ["Temporal", "PostgreSQL"]
        assert [is_dead(pid) for pid in orphans] == [True, True]
        assert not is_dead(pid_of(other, "temporal"))
        assert not folder.daemon_json.exists()
        assert await end_orphans(folder) == []
    finally:
        for part in (EmbeddedPostgres(folder), EmbeddedTemporal(folder), EmbeddedTemporal(other)):
            await part.end_left_over()


async def test_an_orphan_is_ended_also_where_the_folder_is_named_through_a_link(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "home").prepare()
    (tmp_path / "link").symlink_to(folder.path, target_is_directory=True)
    start_and_kill_owner("postgres", "EmbeddedPostgres", folder.path)
    start_and_kill_owner("temporal", "EmbeddedTemporal", folder.path)
    orphans = [pid_of(folder, name) for name in ("postgres", "temporal")]
    try:
        assert await end_orphans(DataFolder(tmp_path / "link")) == ["Temporal", "PostgreSQL"]
        assert [is_dead(pid) for pid in orphans] == [True, True]
    finally:
        for part in (EmbeddedPostgres(folder), EmbeddedTemporal(folder)):
            await part.end_left_over()


async def test_nothing_is_touched_while_some_process_has_the_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "home").prepare()
    start_and_kill_owner("temporal", "EmbeddedTemporal", folder.path)
    write_json(folder.daemon_json, {})
    try:
        with in_use(folder):
            assert await end_orphans(folder) is None
            assert not is_dead(pid_of(folder, "temporal"))
            assert folder.daemon_json.exists()
    finally:
        await EmbeddedTemporal(folder).end_left_over()


async def test_a_folder_that_never_was_a_data_folder_stays_as_it_is(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert await end_orphans(folder) == []
    assert not folder.daemon_lock.exists()
