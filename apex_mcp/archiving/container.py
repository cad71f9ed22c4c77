"""The file around archives and backups: a zip of members and a manifest that tells their sizes and hashes.

Nothing in it is believed: a reader looks at names, sizes and hashes before anything of it is used, and puts no member anywhere
by its name.
"""

import errno
import hashlib
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from apex_mcp.errors import ApexError, Code, Conflict, InputError, Unavailable
from apex_mcp.ingestion.sources.opening import NotRegularError, open_unmoved

MANIFEST = "manifest.json"

_MAX_MANIFEST_BYTES = 64_000_000
_PIECE_BYTES = 1 << 20
# What more than this many times its size comes out of, above so many bytes, was made to fill disks.
_MAX_RATIO = 200
_FREE_BYTES = 1 << 30


class ContainerWriter:
    """Writes a new file beside its place, and puts it there when it is whole. A context manager; `finish` is the last call.

    Args:
        path: where it goes.
        force: replace a file that is there.

    Raises:
        Conflict: there is a file already (`file_exists`).
        InputError: nothing can be written there.
        Unavailable: the disk is full.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self._path = path
        self._force = force
        self._members: list[dict[str, Any]] = []
        self._unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with writing_errors():
            self._require_free()
            descriptor = os.open(
                self._unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600
            )
        self._file = os.fdopen(descriptor, "w+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # On a full disk each of these writes what is left, and fails again: what went wrong first is what is told.
        try:
            with suppress(OSError, ValueError):
                self._zip.close()
            with suppress(OSError):
                self._file.close()
        finally:
            with suppress(FileNotFoundError):
                self._unfinished.unlink()

    @contextmanager
    def member(self, name: str, *, packed: bool = True) -> Generator["MemberWriter"]:
        """A member to write, one at a time; `packed` False for what is compressed already."""
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        info.external_attr = 0o600 << 16
        with writing_errors():
            file = self._zip.open(info, "w", force_zip64=True)
        writer = MemberWriter(file)
        try:
            yield writer
        except BaseException:
            with suppress(OSError, ValueError):
                file.close()
            raise
        with writing_errors():
            file.close()
        self._members.append({"name": name, **writer.told()})

    def finish(self, manifest: dict[str, Any]) -> int:
        """Write the manifest, with what the members are, and give the file its name; its size.

        Raises:
            Conflict: there is a file by now.
            Unavailable: the disk is full.
        """
        body = json.dumps({**manifest, "members": self._members}, ensure_ascii=False, indent=1)
        with writing_errors():
            self._zip.writestr(MANIFEST, body)
            self._zip.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            self._file.close()
            self._require_free()
            os.replace(self._unfinished, self._path)
            _sync(self._path.parent)
        return size

    def _require_free(self) -> None:
        if self._path.exists() and (self._path.is_dir() or not self._force):
            raise Conflict(
                "there is a file of this name already",
                code=Code.FILE_EXISTS,
                unchanged="it was left as it is",
                next_step="name another file, or give --force to replace it",
            )


class MemberWriter:
    """One member while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._lines = 0

    def write(self, data: bytes) -> None:
        """Go on with these bytes.

        Raises:
            InputError: they cannot be written there.
            Unavailable: the disk is full.
        """
        with writing_errors():
            self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def line(self, data: dict[str, Any]) -> None:
        """Go on with a line of JSON."""
        self.write(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self._lines += 1

    def copy(self, source: IO[bytes]) -> None:
        """Go on with all of a file."""
        while piece := source.read(_PIECE_BYTES):
            self.write(piece)

    def told(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"bytes": self._bytes, "lines": self._lines, "sha256": self._digest.hexdigest()}


class ContainerReader:
    """Reads a file that may be anybody's. A context manager.

    Attributes:
        manifest: as it stands there; only `format`, `version` and `members` were looked at.
        digest: of the manifest, and so of everything.
        total_bytes: of all members.

    Args:
        path: the file.
        kind: the format's name.
        version: the newest version that this code reads.
        may_hold: whether a member may have this name.

    Raises:
        InputError: it cannot be read, or is no regular file (`path_not_readable`); it is something else, or damaged
            (`archive_invalid`), or made to fill disks (`too_large`).
        Conflict: a newer apex-mcp made it (`archive_newer`).
    """

    def __init__(self, path: Path, *, kind: str, version: int, may_hold: Callable[[str], bool]) -> None:
        try:
            self._file = open_unmoved(Path(os.path.realpath(path)))
        except OSError as error:
            raise _unreadable(error) from error
        try:
            with reading_errors():
                self._zip = zipfile.ZipFile(self._file)
                self.manifest = self._read_manifest(kind, version)
                self._members = self._checked_members(may_hold)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def lines_of(self, name: str) -> int:
        """Number of lines in a member, as the manifest has it; 0 for one that is not there."""
        return self._members[name]["lines"] if name in self._members else 0

    @contextmanager
    def open(self, name: str) -> Generator[IO[bytes]]:
        """A member as a stream."""
        with reading_errors(), self._zip.open(name) as file:
            yield file

    def pieces(self, name: str) -> Iterator[bytes]:
        """A member's bytes; its size and hash are compared with the manifest's at their end.

        Raises:
            InputError: they differ, or the file is damaged.
        """
        told, digest, size = self._members[name], hashlib.sha256(), 0
        with self.open(name) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
                yield piece
        if size != told["bytes"] or digest.hexdigest() != told["sha256"]:
            raise damaged(f"{name} is not what the manifest says")

    def _read_manifest(self, kind: str, version: int) -> dict[str, Any]:
        found = {info.filename: info for info in self._zip.infolist()}
        if len(found) != len(self._zip.infolist()) or MANIFEST not in found:
            raise damaged("it has no manifest, or two members of one name")
        if found[MANIFEST].file_size > _MAX_MANIFEST_BYTES:
            raise damaged("its manifest is too large")
        body = self._zip.read(MANIFEST)
        manifest = json.loads(body)
        if not isinstance(manifest, dict) or cast("dict[str, Any]", manifest).get("format") != kind:
            raise damaged(f"it is no {kind}")
        told = cast("dict[str, Any]", manifest)
        if not isinstance(told.get("version"), int) or told["version"] < 1:
            raise damaged("its manifest names no version")
        if told["version"] > version:
            raise newer(
                f"this {kind} is of format {told['version']}, and formats up to {version} are known here"
            )
        self.digest = hashlib.sha256(body).hexdigest()
        return told

    def _checked_members(self, may_hold: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
        """The members that the manifest tells of, which must be all, and as large as it says."""
        told = self.manifest.get("members")
        if not isinstance(told, list) or not all(map(_is_told, cast("list[Any]", told))):
            raise damaged("its manifest does not tell of its members")
        members = {one["name"]: one for one in cast("list[dict[str, Any]]", told)}
        there = {info.filename: info for info in self._zip.infolist() if info.filename != MANIFEST}
        if len(members) != len(cast("list[Any]", told)) or set(members) != set(there):
            raise damaged("its members are not those of its manifest")
        if foreign := [name for name in members if not may_hold(name)]:
            raise damaged(f"it has {len(foreign)} members that do not belong there")
        for name, info in there.items():
            plain = (
                info.compress_type in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED) and not info.flag_bits & 1
            )
            if not plain or info.file_size != members[name]["bytes"]:
                raise damaged(f"{name} is not what the manifest says")
        size = self._file.seek(0, os.SEEK_END)
        self.total_bytes = sum(info.file_size for info in there.values())
        packed = sum(info.compress_size for info in there.values())
        if packed > size or (self.total_bytes > _FREE_BYTES and self.total_bytes > _MAX_RATIO * size):
            raise InputError(
                "far more would come out of this file than it holds",
                code=Code.TOO_LARGE,
                unchanged="nothing was stored",
                next_step="it was made to fill a disk; get the file again from where it was exported",
            )
        return members


def _is_told(one: Any) -> bool:
    if not isinstance(one, dict):
        return False
    told = cast("dict[str, Any]", one)
    numbers = [told.get("bytes"), told.get("lines")]
    return (
        isinstance(told.get("name"), str)
        and isinstance(told.get("sha256"), str)
        and all(isinstance(number, int) and number >= 0 for number in numbers)
    )


def damaged(what: str) -> InputError:
    """The error about a file that is not, or no more, what it should be."""
    return InputError(
        f"this file cannot be taken: {what}",
        code=Code.ARCHIVE_INVALID,
        unchanged="nothing was stored",
        next_step="name a file that apex-mcp made, or get it again: it is damaged, incomplete or something else",
    )


def newer(what: str) -> Conflict:
    """The error about a file of a later version."""
    return Conflict(
        what,
        code=Code.ARCHIVE_NEWER,
        unchanged="nothing was stored",
        next_step="install the newer apex-mcp (uvx apex-mcp@latest)",
    )


@contextmanager
def reading_errors() -> Generator[None]:
    """Turn what a damaged zip raises into an `InputError`."""
    try:
        yield
    except ApexError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise damaged("it is no zip file, or a part of it is damaged") from error
    except OSError as error:
        raise _unreadable(error) from error


@contextmanager
def writing_errors() -> Generator[None]:
    """Turn the operating system's errors about the file that is written into ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            raise Unavailable(
                "the disk that the file goes to is full",
                code=Code.DISK_FULL,
                unchanged="no file was left there",
                next_step="free space, or name a file on another disk",
            ) from error
        found = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise InputError(
            "there is no such folder" if found else "the file cannot be written there",
            code=Code.PATH_NOT_FOUND if found else Code.PATH_NOT_READABLE,
            unchanged="no file was written",
            next_step="name a file in a folder that exists and that you may write to",
        ) from error


def _unreadable(error: OSError) -> InputError:
    if isinstance(error, NotRegularError):
        return InputError(
            "this is a pipe, a device or a folder, and only regular files are taken",
            code=Code.PATH_NOT_READABLE,
            unchanged="nothing was stored",
            next_step="save what comes out of it into a file, and name that",
        )
    missing = isinstance(error, FileNotFoundError)
    return InputError(
        "there is no such file" if missing else "the file cannot be read",
        code=Code.PATH_NOT_FOUND if missing else Code.PATH_NOT_READABLE,
        unchanged="nothing was stored",
        next_step="check the path",
    )


def _sync(folder: Path) -> None:
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
