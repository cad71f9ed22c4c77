"""A data folder out of a backup: built beside what is there, and put in its place when it is whole."""

import asyncio
import contextlib
import errno
import secrets
import shutil
import subprocess
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from apex_mcp.archiving.container import damaged
from apex_mcp.errors import ApexError, Code, Conflict
from apex_mcp.left_overs import REPLACED, UNFINISHED, remove_unfinished
from apex_mcp.runtime.backup import RECORD, BackupReader
from apex_mcp.runtime.home import DataFolder, storage_errors, sync_folder
from apex_mcp.runtime.lock import DaemonLock
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.postgres_programs import client_environment
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.restored import Memories, forget_again, read_memories, settle_restored
from apex_mcp.stores.record.schema import ensure_schema

# What makes a memory, in the order in which it goes. Without secrets.json a folder is not opened: so it goes first and comes
# last, and no daemon takes a folder that is half replaced for an empty one. Models, programs and logs stay.
_PARTS = (
    "secrets.json",
    "postgres.json",
    "postgres",
    "temporal.json",
    "temporal",
    "vectors",
    "staging",
    "config.toml",
)
_LOCK_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did.

    Attributes:
        made_at: when the backup was made.
        aside: where what was there before is now; None where nothing was.
        forgotten_again: how many documents and entities were forgotten since the backup, and so are again.
        forgetting_known: False where the replaced data could not be asked what was forgotten.
        left_out_settings: of config.toml, because they are secret: they are to be set again.
    """

    made_at: datetime
    aside: Path | None
    forgotten_again: int
    forgetting_known: bool
    left_out_settings: list[str]


async def restore(folder: DataFolder, file: Path, *, replace: bool) -> Restored:
    """Make a data folder of a backup. No daemon may run on it.

    Args:
        folder: the data folder, empty or not there yet; or one that holds a memory, with `replace`.
        file: the backup.
        replace: what is there is moved aside.

    Raises:
        InputError: the file is no backup, or damaged; nothing was changed.
        Conflict: a newer apex-mcp made it, the folder holds a memory, or is in use; nothing was changed.
        ApexError: it could not be restored; what was there is there again.
    """
    with await asyncio.to_thread(BackupReader, file) as reader:
        await asyncio.to_thread(reader.check)
        holds = folder.has_database
        if holds and not replace:
            raise Conflict(
                "this data folder holds a memory already",
                code=Code.FILE_EXISTS,
                unchanged="it was left as it is",
                next_step="give --replace to move it aside, or set APEX_HOME to a new folder",
            )
        await asyncio.to_thread(folder.prepare)
        with _locked(folder):
            memories, known = await _memories(folder) if holds else (None, True)
            # A daemon that was killed leaves Temporal's server, which would go on in the folder that is moved aside.
            await EmbeddedTemporal(folder).end_left_over()
            await asyncio.to_thread(remove_unfinished, folder.path)
            new = DataFolder(folder.path / f"{UNFINISHED}{secrets.token_hex(4)}")
            try:
                again = await _build(new, reader, memories)
                with storage_errors():
                    aside = await asyncio.to_thread(_swap, folder, new, keep=holds)
            finally:
                await asyncio.to_thread(shutil.rmtree, new.path, ignore_errors=True)
    return Restored(
        made_at=reader.manifest.made_at,
        aside=aside,
        forgotten_again=again,
        forgetting_known=known,
        left_out_settings=reader.manifest.left_out_settings,
    )


@contextlib.contextmanager
def _locked(folder: DataFolder) -> Generator[None]:
    lock = DaemonLock(str(folder.daemon_lock))
    if not lock.acquire(give_up=lambda: False, timeout_seconds=_LOCK_SECONDS):
        raise Conflict(
            "the data folder is in use",
            code=Code.ALREADY_RUNNING,
            next_step="end its daemon with `apex-mcp stop`, then try again",
        )
    try:
        yield
    finally:
        lock.release()


async def _memories(folder: DataFolder) -> tuple[Memories | None, bool]:
    """What the folder that is replaced has forgotten; and whether it could be asked."""
    try:
        async with _database(folder) as database:
            return await read_memories(database), True
    except ApexError:
        # It may be the very reason for restoring that it cannot be opened.
        return None, False


async def _build(new: DataFolder, reader: BackupReader, memories: Memories | None) -> int:
    """Make the folder whole; how much was forgotten again."""
    await asyncio.to_thread(new.prepare)
    with storage_errors():
        await asyncio.to_thread(reader.unpack_beside_record, new)
    async with _database(new, reader) as database:
        await settle_restored(database)
        return await forget_again(database, memories) if memories is not None else 0


@contextlib.asynccontextmanager
async def _database(folder: DataFolder, reader: BackupReader | None = None) -> AsyncGenerator[Database]:
    """The record in a data folder; with `reader`, loaded and migrated first."""
    postgres = EmbeddedPostgres(folder)
    try:
        conninfo = await postgres.start()
        if reader is not None:
            await asyncio.to_thread(_load, postgres.programs["pg_restore"], conninfo, reader)
            await ensure_schema(conninfo)
        database = Database(conninfo, max_size=4)
        await database.open()
        try:
            yield database
        finally:
            await database.close()
    finally:
        await postgres.stop()


def _load(program: str, conninfo: str, reader: BackupReader) -> None:
    once = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--dbname=apex")
    process = subprocess.Popen(
        [program, *once],
        env=client_environment(conninfo),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    try:
        with _ended_early():
            for piece in reader.container.pieces(RECORD):
                process.stdin.write(piece)
            process.stdin.close()
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        with _ended_early():
            process.stdin.close()
    if status != 0:
        raise damaged("its record cannot be loaded")


@contextlib.contextmanager
def _ended_early() -> Generator[None]:
    """Pass over that a program reads no more of its input: its exit status says why."""
    try:
        yield
    except BrokenPipeError:
        pass
    except OSError as error:
        # So Windows calls it.
        if error.errno != errno.EINVAL:
            raise


def _swap(folder: DataFolder, new: DataFolder, *, keep: bool) -> Path | None:
    """Put the new parts in the place of the old ones; on failure all is as it was."""
    now = datetime.now(UTC)
    aside = folder.path / f"{REPLACED}{now:%Y%m%d-%H%M%S}"
    aside.mkdir(mode=0o700)
    moved: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        if source.exists():
            source.rename(target)
            moved.append((source, target))

    try:
        for name in _PARTS:
            move(folder.path / name, aside / name)
        for name in reversed(_PARTS):
            # What describes processes is of those that made it.
            if not name.endswith(".json") or name == "secrets.json":
                move(new.path / name, folder.path / name)
    except BaseException:
        for source, target in reversed(moved):
            target.rename(source)
        aside.rmdir()
        raise
    sync_folder(folder.path)
    if keep:
        return aside
    shutil.rmtree(aside, ignore_errors=True)
    return None
