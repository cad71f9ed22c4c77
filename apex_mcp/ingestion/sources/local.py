"""Files of this machine: found below the caller's roots, read once, within limits."""

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.sources.opening import MovedError, open_unmoved
from apex_mcp.ingestion.sources.roots import path_from_uri, usable_root

_MAX_NAME_SHOWN = 255
_NOTHING = "nothing was accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file that may be read: its real path (links resolved), and what tells one content of it from another."""

    path: Path
    size_bytes: int
    modified_ns: int

    @property
    def uri(self) -> str:
        return self.path.as_uri()


def find_file(source: str, caller: Caller, *, home: Path, max_bytes: int) -> LocalFile:
    """The file that a caller names by path or `file://` URI, if it may be read.

    Args:
        source: path or URI.
        caller: whose roots count.
        home: the data folder; nothing in it is ever read, whatever the roots.
        max_bytes: largest size.

    Raises:
        InputError: it is missing, a folder, unreadable, too large, outside the roots or in the data folder.
    """
    given = _absolute(source, caller)
    try:
        real = given.resolve(strict=True)
        status = real.stat()
    except (FileNotFoundError, NotADirectoryError):
        # Whether something outside the roots exists is nobody's business.
        _check_roots(given.resolve(), caller)
        raise InputError(
            f"there is no file {_named(given)} at that path",
            code=Code.PATH_NOT_FOUND,
            unchanged=_NOTHING,
            next_step="check the spelling"
            + ("" if Path(source).is_absolute() else "; a relative path starts from the client's first root"),
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(given) from error
    _check_roots(real, caller)
    if real.is_relative_to(home.resolve()):
        raise _outside("the path is in the data folder of apex-mcp", "documents belong outside of it", {})
    if stat.S_ISDIR(status.st_mode):
        raise InputError(
            f"{_named(given)} is a folder",
            code=Code.PATH_IS_FOLDER,
            unchanged=_NOTHING,
            next_step="name one file, or use the command `apex-mcp ingest FOLDER` for all files in it",
        )
    if not stat.S_ISREG(status.st_mode) or not os.access(real, os.R_OK):
        raise _unreadable(given)
    if status.st_size > max_bytes:
        raise InputError(
            f"the file has {status.st_size} bytes, and {max_bytes} are allowed",
            code=Code.TOO_LARGE,
            unchanged=_NOTHING,
            next_step="split it, or raise APEX_MAX_FILE_BYTES",
        )
    return LocalFile(path=real, size_bytes=status.st_size, modified_ns=status.st_mtime_ns)


def read_file(path: Path, *, max_bytes: int) -> tuple[bytes, str]:
    """A file's bytes and their SHA-256, re-checked at reading time.

    Args:
        path: a real one, as `find_file` gave it; no link that came later is followed.
        max_bytes: largest size.

    Raises:
        InputError: it has gone, cannot be read, is behind a link now, or has grown beyond the limit.
    """
    try:
        with open_unmoved(path) as file:
            data = file.read(max_bytes + 1)
    except MovedError:
        raise InputError(
            f"the path of the file {_named(path)} leads over a link that was not there when it was accepted",
            code=Code.PATH_OUTSIDE_ROOTS,
            unchanged="nothing was read",
            next_step="ingest the file again, by the path where it is now",
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"the file {_named(path)} has gone since it was accepted",
            code=Code.PATH_NOT_FOUND,
            unchanged="nothing of it was stored",
            next_step="put it back and call retry_ingestion, or ingest it from its new place",
        ) from None
    except OSError as error:
        raise _unreadable(path) from error
    if len(data) > max_bytes:
        raise InputError(
            f"the file has more than {max_bytes} bytes",
            code=Code.TOO_LARGE,
            unchanged="nothing of it was stored",
            next_step="split it, or raise APEX_MAX_FILE_BYTES",
        )
    return data, hashlib.sha256(data).hexdigest()


def _absolute(source: str, caller: Caller) -> Path:
    path = path_from_uri(source) if source[:5].casefold() == "file:" else Path(source)
    if path is None or "\0" in source or not _is_unicode(source):
        raise InputError(
            "that is not a path of this machine that can be kept: it must be valid Unicode",
            code=Code.SOURCE_NOT_SUPPORTED,
            unchanged=_NOTHING,
            next_step="give an absolute path or a file:// URI",
        )
    if source.startswith("~"):
        with suppress(RuntimeError):  # no such user: then it is a name like any other
            path = path.expanduser()
    if path.is_absolute():
        return path
    base = caller.base or next(iter(caller.roots), None)
    if base is None:
        raise _no_roots(caller)
    return base / path


def _named(path: Path) -> str:
    """A file's name for a message, shortened: no file system takes one of thousands of characters, and a caller may send it."""
    name = path.name
    return repr(name if len(name) <= _MAX_NAME_SHOWN else f"{name[:_MAX_NAME_SHOWN]}...")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_roots(real: Path, caller: Caller) -> None:
    if caller.vouched:
        return
    roots = [root for root in caller.roots if usable_root(root)]
    if not roots:
        raise _no_roots(caller)
    if not any(real.is_relative_to(root.resolve()) for root in roots):
        raise _outside(
            "the path is outside the folders that may be read",
            "pass the content as `text`, or have the file put below one of the server's folders (its APEX_ROOTS)"
            if caller.remote
            else "move the file below one of them, or add its folder to APEX_ROOTS in the client's configuration",
            {} if caller.remote else {"roots": [str(root) for root in roots]},
        )


def _outside(message: str, next_step: str, details: dict[str, list[str]]) -> InputError:
    return InputError(
        message,
        code=Code.PATH_OUTSIDE_ROOTS,
        unchanged="nothing was read",
        next_step=next_step,
        details=details,
    )


def _no_roots(caller: Caller) -> InputError:
    if caller.remote:
        return InputError(
            "the server reads no files: its APEX_ROOTS is not set",
            code=Code.NO_ROOTS,
            unchanged="nothing was read",
            next_step="pass the content as `text`",
        )
    return InputError(
        "no folder may be read: the client names no roots and APEX_ROOTS is not set",
        code=Code.NO_ROOTS,
        unchanged="nothing was read",
        next_step="set APEX_ROOTS to a folder in the client's configuration, pass the content as `text`, "
        "or use the command `apex-mcp ingest PATH`",
    )


def _unreadable(path: Path) -> InputError:
    return InputError(
        f"{_named(path)} cannot be read",
        code=Code.PATH_NOT_READABLE,
        unchanged=_NOTHING,
        next_step="check that it is a regular file and that this user may read it",
    )
