"""Processes of ours that outlive the process that started them: start, find again, watch, end.

A killed daemon leaves its children running on purpose: the next one finds them by what it recorded, proves
that they are what they seem (a process id may belong to anyone by then), and adopts or ends them.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from apex_mcp.errors import Code, Rejected, Unavailable

MAX_LOG_BYTES = 5_000_000

_POLL_SECONDS = 0.25
_LOG_CHECK_SECONDS = 30

# Keeps what this process started: a Popen that is dropped while its process runs warns, and is never reaped.
_started: dict[int, subprocess.Popen[Any]] = {}


@dataclass(frozen=True, slots=True)
class OsUser:
    """Whom a child runs as, where that is not the user of this process."""

    uid: int
    gid: int


class Child:
    """A running process, started here or found again."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def record(self) -> dict[str, Any]:
        """What finds this process again."""
        return {"pid": self.pid, "created": self._process.create_time()}

    def alive(self) -> bool:
        """Whether it still runs; also reaps it when this process started it."""
        popen = _started.get(self.pid)
        if popen is not None:
            if popen.poll() is None:
                return True
            # Once it is reaped, its id may be another process's, whom we may have found again.
            _started.pop(self.pid, None)
        try:
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def listens_on(self, port: int) -> bool:
        """Whether this very process listens on that TCP port."""
        try:
            connections = self._process.net_connections("tcp")
        except psutil.NoSuchProcess:
            return False
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)

    async def wait_dead(self, log: Path, *, also: Callable[[], bool] = lambda: False) -> None:
        """Return when the process is dead, or `also` says that it is of no use; bounds its log meanwhile."""
        next_log_check = time.monotonic() + _LOG_CHECK_SECONDS
        while self.alive() and not also():
            await asyncio.sleep(_POLL_SECONDS)
            if time.monotonic() > next_log_check:
                bound_log(log)
                next_log_check = time.monotonic() + _LOG_CHECK_SECONDS

    async def end(self, *asks: Callable[[psutil.Process], None], grace_seconds: float) -> None:
        """Ask it to end in each of these ways, waiting `grace_seconds` after each, then kill it.

        Raises:
            Rejected: it lives on, being another user's or stuck in the kernel (`data_folder_unusable`).
        """
        for ask in (*asks, psutil.Process.kill):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                ask(self._process)
            if await self._died_within(grace_seconds):
                return
        raise Rejected(
            "a process that uses the data folder cannot be ended",
            code=Code.DATA_FOLDER_UNUSABLE,
            next_step=f"end the process {self.pid} ({self._process.name()}), or restart the machine",
            details={"pid": self.pid},
        )

    async def _died_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while alive := self.alive():
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        return not alive


def start(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    user: OsUser | None = None,
    pass_fds: Sequence[int] = (),
) -> Child:
    """Start a process outside our process group and terminal, with its output appended to `log`.

    Raises:
        OSError: it cannot be started, or its log cannot be opened.
    """
    bound_log(log)
    options: dict[str, Any] = {}
    if sys.platform == "win32":
        options["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        options["start_new_session"] = True
        options["pass_fds"] = pass_fds
        if user is not None:
            options |= {"user": user.uid, "group": user.gid, "extra_groups": []}
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        popen: subprocess.Popen[Any] = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            env=dict(environment),
            # Whatever folder we stand in may go away, or be closed to the child's user.
            cwd=log.anchor,
            **options,
        )
    finally:
        os.close(handle)
    _started[popen.pid] = popen
    return Child(psutil.Process(popen.pid))


def find(pid: object, is_it: Callable[[psutil.Process], bool]) -> Child | None:
    """The process with this id, if `is_it` recognises it."""
    if not isinstance(pid, int) or pid <= 0:
        return None
    try:
        process = psutil.Process(pid)
        child = Child(process)
        return child if child.alive() and is_it(process) else None
    except psutil.Error:
        return None


def find_all(is_it: Callable[[psutil.Process], bool]) -> Iterator[Child]:
    """Every process on the machine that `is_it` recognises."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if is_it(process):
                yield Child(process)


def environment_without(*prefixes: str) -> dict[str, str]:
    """Our environment without the variables that would steer the child behind our back."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(prefixes)}


def free_ports(count: int) -> list[int]:
    """Loopback ports, all different, free a moment ago: another process may take one before it is used."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def bound_log(log: Path) -> None:
    """Move what a too long log holds to `<log>.1`; the writer goes on appending to the emptied file."""
    # On Windows a writer may hold the file shut; then it is bounded at the next start.
    with contextlib.suppress(FileNotFoundError, PermissionError):
        if log.stat().st_size > MAX_LOG_BYTES:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)


def log_size(log: Path) -> int:
    """Where the log ends now."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def log_since(log: Path, offset: int) -> str:
    """The last 20,000 bytes at most of what came after `offset`; to recognise a fault by, never to show."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= end else 0, end - 20_000))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def cannot_start(what: str, code: Code, log: Path) -> Unavailable:
    """The error for a child that ended or could not run, for no reason that we know."""
    return Unavailable(
        f"{what} could not be started",
        code=code,
        next_step=f"see logs/{log.name} in the data folder (`apex-mcp logs`), or ask `apex-mcp doctor`",
    )
