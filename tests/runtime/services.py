"""What the tests of the embedded services share."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

_KILLED_OWNER = """
import asyncio, pathlib, sys
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.{module} import {service}

async def main():
    await {service}(DataFolder(pathlib.Path(sys.argv[1])).prepare()).start()
    print("up", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@contextlib.contextmanager
def owner_process(module: str, service: str, home: Path) -> Generator[subprocess.Popen[str]]:
    """Another process that starts a service; it is killed, its children are not."""
    script = _KILLED_OWNER.format(module=module, service=service)
    process = subprocess.Popen([sys.executable, "-c", script, str(home)], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def start_and_kill_owner(module: str, service: str, home: Path) -> None:
    """Leave an orphan: start the service from another process, and kill that one."""
    with owner_process(module, service, home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"


def eventually(holds: Callable[[], object], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


def is_dead(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def small_disk(folder: Path, *, megabytes: int, read_only: bool = False) -> Generator[Path]:
    """A file system of its own, in memory; skips the test where that is not allowed."""
    folder.mkdir()
    options = f"size={megabytes}m,mode=700{',ro' if read_only else ''}"
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, *, but_megabytes: int) -> None:
    """Fill the disk up to a rest."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb") as filler:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        for _ in range(free // 1_000_000 - but_megabytes):
            filler.write(b"\0" * 1_000_000)
