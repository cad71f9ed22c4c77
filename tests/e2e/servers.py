"""The server profile on this machine: stores on servers, `apex-mcp serve` and `apex-worker` as processes of their own."""

import asyncio
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, LiteralString, Self
from unittest.mock import patch

import httpx2
import psycopg
from mcp import Client
from mcp.client.context import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ListRootsResult, Root
from pydantic import FileUrl

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import SETTINGS, EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal
from tests.e2e.demo import DEMO
from tests.e2e.homes import ERAS, Session
from tests.record.conftest import create_database
from tests.services.redis_server import RedisServer, free_port

_BIN = Path(sys.executable).parent
_START_SECONDS = 60.0
_STOP_SECONDS = 40.0


class PostgresForMany(EmbeddedPostgres):
    """One daemon needs few connections, a server with several workers more.

    Set for its own start only: by its settings a daemon knows whether a server that runs is one that it would start.
    """

    async def start(self) -> str:
        with patch.dict(SETTINGS, max_connections="150"):
            return await super().start()


@dataclass(frozen=True)
class Stores:
    """Addresses of stores that run."""

    postgres: EmbeddedPostgres
    temporal: EmbeddedTemporal
    redis: RedisServer
    database_url: str
    qdrant_url: str
    temporal_address: str
    staging: str
    more: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def environment(self) -> dict[str, str]:
        """Under their bare names, as platforms give them."""
        return {
            "DATABASE_URL": self.database_url,
            "QDRANT_URL": self.qdrant_url,
            "TEMPORAL_ADDRESS": self.temporal_address,
            "APEX_STAGING": self.staging,
            **self.more,
        }

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """What PostgreSQL itself says."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def with_database(self) -> "Stores":
        """The same with an empty database of its own, and so with a memory of its own."""
        return replace(self, database_url=create_database(self.postgres, "template1"))


class Process:
    """A process of ours with its log; a context manager that ends it, and asserts that it ended well."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        self.log_begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.popen = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self._log.read_bytes()[self.log_begins :].decode("utf-8", "replace")

    def says(self, words: str) -> Self:
        """Wait until its log holds some words."""
        return self.waits(lambda: words in self.log)

    def waits(self, condition: Callable[[], bool]) -> Self:
        """Wait for what it is to bring about; it is ended where that does not come."""
        deadline = time.monotonic() + _START_SECONDS
        try:
            while not condition():
                assert self.popen.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def terminate(self) -> int:
        """Ask it to stop, and wait; its exit status."""
        self.popen.terminate()
        return self.popen.wait(_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            try:
                status = self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            assert status == 0, self.log


@dataclass
class Site:
    """One memory on servers."""

    folder: Path
    stores: Stores
    port: int = field(default_factory=free_port)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))

    @property
    def root(self) -> Path:
        return self.folder / "files"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("APEX_") and name not in self.stores.environment
        }
        given = {
            "APEX_HOME": str(self.folder / "home"),
            "APEX_ROOTS": os.pathsep.join([str(self.root), str(DEMO)]),
            "APEX_EMBEDDER": "none",
            "APEX_CHILDREN": "1",
            "APEX_HTTP_PORT": str(self.port),
            "APEX_HTTP_TOKEN": self.token,
        }
        return {**kept, **self.stores.environment, **given}

    def process(self, command: str, *arguments: str, **environment: str) -> Process:
        """Start one of our commands."""
        program = shutil.which(command, path=str(_BIN))
        assert program is not None, f"{command} is not installed beside this Python"
        name = f"{command}-{secrets.token_hex(3)}.log"
        return Process([program, *arguments], {**self.environment, **environment}, self.folder / name)

    def serve(self) -> Process:
        """A server that is ready."""
        return self.ready(self.process("apex-mcp", "serve"))

    def ready(self, server: Process) -> Process:
        """The server, once it is ready."""
        return server.waits(lambda: self.status("/ready") == 200)

    def worker(self, *arguments: str) -> Process:
        """A worker that works."""
        return self.process("apex-worker", *arguments).says(" works, record ")

    def status(self, path: str, **headers: str) -> int:
        """The status of a plain GET; 0 while nobody listens."""
        return self.get(path, **headers)[0]

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of a plain GET."""
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=headers)) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError:
            return 0, b""

    def file(self, name: str, content: str | bytes) -> Path:
        """A new file below the root."""
        path = self.root / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        return self.stores.rows(query)

    def number(self, query: LiteralString) -> int:
        return int(self.rows(query)[0][0])

    def staged(self) -> list[str]:
        """Whose content lies in staging."""
        folder = Path(self.stores.staging)
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))

    @asynccontextmanager
    async def session(self, era: str = ERAS[0], *, roots: Sequence[Path] = ()) -> AsyncGenerator[Session]:
        """A client over HTTP; with `roots` it names these folders when it is asked."""

        async def list_roots(context: ClientRequestContext) -> ListRootsResult:
            return ListRootsResult(roots=[Root(uri=FileUrl(root.as_uri())) for root in roots])

        headers = {"Authorization": f"Bearer {self.token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(
                streamable_http_client(f"{self.url}/mcp", http_client=http),
                mode=era,
                list_roots_callback=list_roots if roots else None,
            ) as client,
        ):
            yield Session(client)


@contextmanager
def running_stores(redis: RedisServer, **more: str) -> Generator[Stores]:
    """PostgreSQL, Temporal, a Qdrant and a shared folder beside what runs already."""
    with asyncio.Runner() as runner, ExitStack() as stack:
        # A short path: PostgreSQL's socket lies in it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apex"))).resolve()
        postgres = PostgresForMany(DataFolder(folder / "postgres").prepare())
        temporal = EmbeddedTemporal(DataFolder(folder / "temporal").prepare())
        stack.callback(lambda: runner.run(postgres.stop()))
        stack.callback(lambda: runner.run(temporal.stop()))
        database_url, address = runner.run(postgres.start()), runner.run(temporal.start())
        port = free_port()
        command = [sys.executable, "-m", "tests.doubles.qdrant_server", "--port", str(port), "--path"]
        qdrant = subprocess.Popen([*command, str(folder / "qdrant")], cwd=Path(__file__).parents[2])
        stack.callback(qdrant.wait)
        stack.callback(qdrant.kill)
        _await_port(port, qdrant)
        (folder / "staging").mkdir()
        qdrant_url = f"http://127.0.0.1:{port}"
        staging = str(folder / "staging")
        yield Stores(postgres, temporal, redis, database_url, qdrant_url, address, staging, more)


@contextmanager
def new_site(stores: Stores) -> Generator[Site]:
    """A memory on these stores."""
    with tempfile.TemporaryDirectory(prefix="apex") as name:
        site = Site(Path(name).resolve(), stores.with_database())
        site.root.mkdir()
        yield site


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/"):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            assert process.poll() is None, "the Qdrant double ended at its start"
            assert time.monotonic() < deadline, "the Qdrant double does not answer"
            time.sleep(0.02)
