"""The files beside a shard: `state.json`, written whole and only after a flush, and copies of shards."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Raised when points are stored in a way that an older shard does not have; such a shard is rebuilt.
FORMAT = 1

_FILE = "state.json"
_DISK_FACTOR = 4
# The engine makes and removes these as it flushes, and rewrites those in whatever length.
_PASSING = "tracker_journal.dat"
_REWRITTEN = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Which record an index belongs to, and how far it goes.

    Attributes:
        shard: name of the folder with the shard in use; any other is left over.
        position: the record's own word for how far the shard is durable; None until it is complete.
        filled: how far the last filling had come; see `layout.filled`.
        points: how many there are at least, whatever of the writes since the last flush a crash has left.
        words: some of them had words at the last flush.
        changed: points written, retired and deleted since the last build.
        files: of the shard at the last flush, by their paths in it; each has at least so many bytes since.
    """

    record_id: str
    embedder: str | None
    dimension: int | None
    shard: str
    position: str | None = None
    filled: str | None = None
    points: int = 0
    words: bool = False
    changed: int = 0
    files: Mapping[str, int] = field(default_factory=dict[str, int])
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Replace the file at once, durably."""
        new = folder / f"{_FILE}.new"
        with new.open("w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / _FILE)
        _sync_folder(folder)


def read_state(folder: Path) -> tuple[State | None, str | None]:
    """The state, or None where there is none that this version understands; and what was wrong with it."""
    try:
        data: dict[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        state = State(**data)
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError, TypeError) as error:
        return None, type(error).__name__
    return (state, None) if state.format == FORMAT else (None, None)


def read_files(shard: Path) -> dict[str, int]:
    """The files of a shard that is flushed, with the bytes that they keep from now on, however the engine ends."""
    return {
        path.relative_to(shard).as_posix(): 0 if path.suffix == _REWRITTEN else path.stat().st_size
        for path in sorted(shard.rglob("*"))
        if path.is_file() and path.name != _PASSING
    }


def file_damage(folder: Path, state: State) -> str | None:
    """What is wrong with the files that `state` is of, told by their names and lengths; None where nothing is."""
    if not (folder / _FILE).is_file():
        return "no state"
    for name, length in state.files.items():
        try:
            found = (folder / state.shard / name).stat().st_size
        except OSError:
            return "a file is missing"
        if found < max(length, 1 if name.endswith(_REWRITTEN) else 0):
            return "a file is cut short"
    return None


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable; Windows neither has nor needs it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def copy_shard(source: Path, target: Path) -> None:
    """Copy a shard that is flushed and not written to.

    Raises:
        OSError: among others, where a copy and what is built from it would fill the disk.
    """
    size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    if shutil.disk_usage(source).free < _DISK_FACTOR * size:
        raise OSError(errno.ENOSPC, "no room for a copy of the vector index")
    shutil.copytree(source, target)


def sync_files(folder: Path) -> None:
    """Make a shard durable that other processes wrote."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)
