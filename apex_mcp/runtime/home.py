"""The data folder: everything that is kept is in it, and it is closed to other users.

    daemon.json  daemon.lock  secrets.json  config.toml
    postgres/  postgres.json  temporal/temporal.db  temporal.json
    vectors/  staging/  models/  programs/  logs/

Imported by the stdio front end, so nothing heavy is imported here.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apex_mcp.errors import ApexError, Code, Rejected, Unavailable
from apex_mcp.ingestion.room import LEAST_FREE_BYTES

# macOS has the smallest limit: 104 bytes with the closing zero.
SOCKET_PATH_BYTES = 103
SOCKET_NAME = ".s.PGSQL.5432"

# What may stand in a folder before it is taken as the data folder. Anything else is somebody's own.
_MARK = "secrets.json"
_MAY_COME_FIRST = frozenset({
    "config.toml",
    "daemon.lock",
    "logs",
    "models",
    "lost+found",
    ".DS_Store",
    "desktop.ini",
})


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the data folder's owner knows and no other user may."""

    postgres_password: str


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The places within a data folder; only `prepare` makes the folder fit for use."""

    path: Path

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def has_database(self) -> bool:
        """Whether PostgreSQL was set up here, so that something may be stored."""
        return (self.postgres / "PG_VERSION").is_file()

    @property
    def temporal(self) -> Path:
        return self.path / "temporal"

    @property
    def temporal_db(self) -> Path:
        return self.temporal / "temporal.db"

    @property
    def vectors(self) -> Path:
        return self.path / "vectors"

    @property
    def staging(self) -> Path:
        return self.path / "staging"

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def programs(self) -> Path:
        return self.path / "programs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def daemon_json(self) -> Path:
        return self.path / "daemon.json"

    @property
    def daemon_lock(self) -> Path:
        return self.path / "daemon.lock"

    @property
    def secrets_json(self) -> Path:
        return self.path / "secrets.json"

    @property
    def config_toml(self) -> Path:
        return self.path / "config.toml"

    def child_json(self, name: str) -> Path:
        """Where the daemon records the child process `name`."""
        return self.path / f"{name}.json"

    def log(self, name: str) -> Path:
        """The log file of `name`."""
        return self.logs / f"{name}.log"

    @property
    def fingerprint(self) -> str:
        """A short name for this place, for what must be told apart outside the folder."""
        return hashlib.sha256(os.fsencode(os.path.realpath(self.path))).hexdigest()[:12]

    def prepare(self) -> "DataFolder":
        """Create what is missing, close the folder to other users, and check that it can be used.

        Raises:
            Rejected: not a folder, not ours, read-only, or full of something else (`data_folder_unusable`).
            Unavailable: the disk is full (`disk_full`).
        """
        with storage_errors():
            # From Python 3.11.10, 3.12.4 and 3.13 on, mode 0o700 closes a new folder on Windows as well.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            if not self.path.is_dir():
                raise _unusable("the data folder's path names something that is not a folder")
            _require_ours(self.path)
            self.require_no_strangers()
            _close(self.path)
            # What is stored must be readable on a full disk: a database that was set up is let try, and starts with 17 MB.
            if not self.has_database and shutil.disk_usage(self.path).free < LEAST_FREE_BYTES:
                raise _disk_full()
            # First of all: by it another start at the same instant sees that the folder is ours.
            self.secrets()
            for folder in (self.temporal, self.vectors, self.staging, self.models, self.programs, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            _require_writable(self.path)
        return self

    def prepare_for_models(self) -> "DataFolder":
        """Create what a process needs that stores everything on servers: a place for the models that it loads.

        Raises:
            Rejected: it cannot be created (`data_folder_unusable`).
        """
        with storage_errors():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.models.mkdir(mode=0o700, exist_ok=True)
        return self

    def require_no_strangers(self) -> None:
        """A mistaken `APEX_HOME` (a home folder, a project) must not be closed and written into.

        Raises:
            Rejected: the folder holds other files, or lacks its secrets (`data_folder_unusable`).
        """
        names = set(os.listdir(self.path))
        if _MARK not in names and not all(
            name in _MAY_COME_FIRST or name.startswith(f"{_MARK}.") for name in names
        ):
            if self.has_database:
                raise _unusable(
                    "the data folder's secrets.json is missing",
                    next_step="restore secrets.json from a backup; without it the stored data, which is still there, "
                    "cannot be opened",
                )
            raise _unusable(
                "the data folder holds other files and was never a data folder of apex-mcp",
                next_step="set APEX_HOME to an empty or a new folder",
            )

    def secrets(self) -> Secrets:
        """The generated secrets; made on first use. Two processes that ask at once get the same.

        Raises:
            Rejected: the file is damaged (`data_folder_unusable`).
        """
        with storage_errors():
            if not self.secrets_json.exists():
                fresh = {"postgres_password": secrets.token_urlsafe(32)}
                write_json(self.secrets_json, fresh, replace=False, durable=True)
        data = read_json(self.secrets_json) or {}
        try:
            return Secrets(str(data["postgres_password"]))
        except KeyError as error:
            raise _unusable(
                "the data folder's secrets.json is damaged",
                next_step="restore secrets.json from a backup; without it the stored data cannot be opened",
            ) from error

    def postgres_socket(self, owner: int | None = None) -> Path:
        """The private folder of PostgreSQL's socket: in the data folder, or elsewhere where that is too long.

        Args:
            owner: id of the user whom it may belong to, besides us.

        Raises:
            Rejected: the short folder exists and belongs to someone else (`data_folder_unusable`).
        """
        folder = self._socket_folder()
        with storage_errors():
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            if folder.is_symlink() or not folder.is_dir():
                raise _unusable("the place of PostgreSQL's socket is taken by something that is not a folder")
            if os.name == "posix" and folder.stat().st_uid not in (os.geteuid(), owner):
                raise _unusable("the place of PostgreSQL's socket is taken by another user")
        return folder

    def forget_postgres_socket(self) -> None:
        """Remove the socket's folder where it is outside of the data folder, unless something is in it."""
        folder = self._socket_folder()
        if folder.parent != self.path:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _socket_folder(self) -> Path:
        folder = self.path / "postgres.socket"
        if len(os.fsencode(folder / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
            return folder
        base = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
        return Path(base) / f"apex-mcp-{self.fingerprint}"


def write_json(path: Path, data: dict[str, Any], *, replace: bool = True, durable: bool = False) -> None:
    """Write `data` at once: a reader sees the old file or the new one. Only its owner may read it.

    Args:
        path: the file.
        data: what to write.
        replace: False leaves a file that is there already, without an error.
        durable: whether it must survive a power cut; what describes running processes need not.

    Raises:
        ApexError: the folder cannot be written (`data_folder_unusable`, `disk_full`).
    """
    with storage_errors():
        handle, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            if replace:
                os.replace(name, path)
            else:
                _place(name, path)
            if durable:
                sync_folder(path.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def _place(name: str, path: Path) -> None:
    """Give the file `name` the name `path` unless that exists."""
    with contextlib.suppress(FileExistsError):
        try:
            os.link(name, path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: of two first starts at the same instant the later one wins.
            os.replace(name, path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in `path`; None when the file is missing, damaged or holds no object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None  # pyright: ignore[reportUnknownVariableType]


def sync_folder(path: Path) -> None:
    """Make a rename within `path` durable, where the platform lets a folder be synced."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def storage_errors() -> Generator[None]:
    """Translate the operating system's errors about the data folder."""
    try:
        yield
    except OSError as error:
        raise storage_error(error) from error


def storage_error(error: OSError) -> ApexError:
    """The ApexError that tells the user what an operating system's error means for the data folder."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return _disk_full()
    if error.errno == errno.EROFS:
        return _unusable("the data folder is on a read-only file system")
    if isinstance(error, PermissionError):
        return _unusable("no permission to write the data folder")
    reason = errno.errorcode.get(error.errno or 0, "unknown error")
    return _unusable(f"the data folder cannot be used ({reason})")


def _disk_full() -> Unavailable:
    return Unavailable(
        "the disk that holds the data folder is full",
        code=Code.DISK_FULL,
        next_step=f"free {LEAST_FREE_BYTES // 1_000_000} MB, or move the data folder and set APEX_HOME to it",
    )


def _unusable(
    message: str, *, next_step: str = "set APEX_HOME to a folder that you own and can write"
) -> Rejected:
    return Rejected(message, code=Code.DATA_FOLDER_UNUSABLE, next_step=next_step)


def _require_ours(path: Path) -> None:
    if os.name == "posix" and path.stat().st_uid != os.geteuid():
        raise _unusable("the data folder belongs to another user")


def _close(path: Path) -> None:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) != 0o700:
        path.chmod(0o700)


def _require_writable(path: Path) -> None:
    """What is allowed on paper can still fail: read-only mounts, quotas, immutable flags."""
    with tempfile.TemporaryFile(dir=path) as probe:
        probe.write(b"\0" * 4096)
        probe.flush()
        os.fsync(probe.fileno())
