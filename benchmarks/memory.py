"""A memory of the benchmarks' own: a temporary data folder, and the real daemon on it, ended at the end."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.wire import Stdio

_DEADLINE_SECONDS = 60.0
_LONGEST_SECONDS = 900.0
_KILL_SECONDS = 10.0


class BenchmarkError(Exception):
    """Something that makes a figure meaningless."""


class Ingesting:
    """A command that ingests a folder.

    Attributes:
        searchable: how many of its files are searchable, once it is over.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.searchable = 0

    def going_on(self) -> bool:
        return self._process.poll() is None


class BenchMemory:
    """One data folder, and the commands on it.

    Args:
        home: the data folder.
        embedder: `none`, or a local model's folder.
        roots: where files may be read from.
    """

    def __init__(self, home: Path, *, embedder: str = "none", roots: Path | None = None) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APEX_")}
        self.home = home
        self.environment = {**kept, "APEX_HOME": str(home), "APEX_EMBEDDER": embedder}
        if roots is not None:
            self.environment["APEX_ROOTS"] = str(roots)
        self.command = shutil.which("apex-mcp", path=str(Path(sys.executable).parent)) or _not_installed()

    def run(self, *arguments: str) -> Any:
        """Run a command with `--json`; what it printed."""
        done = subprocess.run(
            [self.command, *arguments, "--json"],
            env=self.environment,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise BenchmarkError(f"`apex-mcp {arguments[0]}` failed: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def stdio(self) -> Stdio:
        """A client over a stdio process of its own, not yet initialised."""
        return Stdio([self.command], self.environment)

    def start(self) -> None:
        """Start the daemon, and return when it can search and, if it has an embedder, embed."""
        with self.stdio() as client:
            client.initialize()
            until(lambda: client.tool("get_stats")["degraded"] == [], "the daemon is ready")

    @contextmanager
    def ingesting(self, folder: Path) -> "Generator[Ingesting]":
        """`apex-mcp ingest FOLDER`, running meanwhile; over at the end."""
        # A file, since nobody reads a pipe while the command runs.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [self.command, "ingest", str(folder), "--json"],
                env=self.environment,
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
            running = Ingesting(process)
            try:
                yield running
                process.wait(_LONGEST_SECONDS)
                output.seek(0)
                running.searchable = json.load(output)["searchable"]
            finally:
                process.kill()
                process.wait()

    def status(self) -> dict[str, Any]:
        return self.run("status")

    def stop(self) -> None:
        """Stop the daemon and everything that it runs, whatever state it is in."""
        left = self.processes()
        if (self.home / "daemon.json").exists():
            with suppress(BenchmarkError):
                self.run("stop")
        _, alive = psutil.wait_procs(left, timeout=_KILL_SECONDS)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def daemon(self) -> psutil.Process:
        return psutil.Process(json.loads((self.home / "daemon.json").read_text("utf-8"))["pid"])

    def processes(self) -> list[psutil.Process]:
        """The daemon and all that it runs; PostgreSQL and Temporal may be an earlier daemon's children."""
        found: set[psutil.Process] = set()
        with suppress(OSError, psutil.NoSuchProcess):
            found.add(self.daemon())
        for process in psutil.process_iter(["cmdline"]):
            # As a part of a word: PostgreSQL's and Temporal's options name files in the folder.
            if any(str(self.home) in word for word in process.info["cmdline"] or ()):
                found.add(process)
        for process in list(found):
            with suppress(psutil.NoSuchProcess):
                found.update(process.children(recursive=True))
        return list(found)

    def longest_pause_ms(self) -> float:
        return float(self.status()["longest_pause_ms"])


@contextmanager
def bench_memory(*, embedder: str = "none", roots: Path | None = None) -> Generator[BenchMemory]:
    """A fresh memory without a daemon; what runs on it at the end is stopped, and the folder removed."""
    # Resolved, so that the name is the one that processes carry.
    home = Path(tempfile.mkdtemp(prefix="apex-bench-")).resolve()
    memory = BenchMemory(home, embedder=embedder, roots=roots)
    try:
        yield memory
    finally:
        memory.stop()
        shutil.rmtree(home, ignore_errors=True)


def until(
    condition: Callable[[], object], what: str, *, seconds: float = _DEADLINE_SECONDS, pause: float = 0.1
) -> float:
    """Wait for something; the seconds that it took.

    Raises:
        BenchmarkError: it did not come about in time.
    """
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > seconds:
            raise BenchmarkError(f"not in {seconds:g} s: {what}")
        time.sleep(pause)
    return time.perf_counter() - started


def _not_installed() -> str:
    raise BenchmarkError("apex-mcp is not installed beside this Python: run `make bench`")
