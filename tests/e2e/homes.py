"""A data folder of a test's own, the clients on it, and what is to be seen of it from outside."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, LiteralString

import psutil
import psycopg
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import TextContent

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres

ERAS = ("legacy", "2026-07-28")
_COMMAND = shutil.which("apex-mcp", path=str(Path(sys.executable).parent))
_LAST_MOMENT_SECONDS = 5
_GONE_SECONDS = 10
# Where a version leaves something. `documents` and `ingestions` keep what was asked and how it ended.
_TABLES: tuple[LiteralString, ...] = (
    "versions", "version_texts", "chunks", "chunk_vectors", "entities", "entity_sources", "facts", "fact_sources",
    "outbox",
)  # fmt: skip


@dataclass(frozen=True)
class Home:
    """One data folder, the folder that files may be read from, and the environment that names both."""

    path: Path
    root: Path
    environment: dict[str, str]

    @property
    def command(self) -> str:
        assert _COMMAND is not None, "apex-mcp is not installed beside this Python"
        return _COMMAND

    @property
    def server(self) -> StdioServerParameters:
        """How an MCP client starts its server."""
        return StdioServerParameters(command=self.command, env=self.environment, cwd=self.root)

    def reading(self, root: Path, *, namespace: str) -> "Home":
        """The same for a client that reads another folder and means another memory."""
        own = {"APEX_ROOTS": str(root), "APEX_NAMESPACE": namespace}
        return replace(self, root=root, environment={**self.environment, **own})

    def file(self, name: str, content: str | bytes) -> Path:
        """A new file below the root."""
        path = self.root / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return subprocess.run(
            [self.command, *arguments],
            env=self.environment, cwd=self.root, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """What PostgreSQL itself says."""
        conninfo = EmbeddedPostgres(DataFolder(self.path)).conninfo()
        with psycopg.connect(conninfo, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def number(self, query: LiteralString) -> int:
        return int(self.rows(query)[0][0])

    def footprint(self) -> dict[str, int]:
        """Number of rows in each table that a version, or an unfinished ingestion, leaves something in."""
        counts: LiteralString = ", ".join([f"(SELECT count(*) FROM {table})" for table in _TABLES])
        return dict(zip(_TABLES, self.rows(f"SELECT {counts}")[0], strict=True))

    def staged(self) -> set[str]:
        """What lies in staging."""
        return {str(path) for path in DataFolder(self.path).staging.rglob("*")}

    def processes(self) -> list[psutil.Process]:
        """Everything that runs on this data folder: by its arguments, its folder or its environment."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def daemon(self) -> psutil.Process:
        """The one that serves; others may be about to find out that there is one."""
        info = json.loads(DataFolder(self.path).daemon_json.read_text("utf-8"))
        return psutil.Process(info["pid"])

    def _owns(self, process: psutil.Process) -> bool:
        if process.pid == os.getpid() or _of(process.status, "") == psutil.STATUS_ZOMBIE:
            return False
        home = str(self.path)
        return (
            any(home in argument for argument in _of(process.cmdline, []))
            or _of(process.cwd, "").startswith(home)
            or _of(process.environ, {}).get("APEX_HOME") == home
        )


def _of(ask: Any, otherwise: Any) -> Any:
    """What a process says of itself, unless it has gone, or is another user's."""
    with suppress(psutil.Error, OSError):
        return ask()
    return otherwise


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL to all at once, and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_GONE_SECONDS)


@contextmanager
def new_home(**more: str) -> Generator[Home]:
    """A data folder; at the end what runs on it is stopped, and nothing may be left."""
    # A short path: PostgreSQL's socket lies in it.
    with tempfile.TemporaryDirectory(prefix="apex") as name:
        folder = Path(name).resolve()
        with home_in(folder, path=folder / "home", **more) as home:
            yield home


@contextmanager
def home_in(folder: Path, *, path: Path, **more: str) -> Generator[Home]:
    """The same where the caller wants it: `path` for the data, a folder for files in `folder`."""
    root = folder / "files"
    root.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APEX_")}
    given = {"APEX_HOME": str(path), "APEX_ROOTS": str(root), "APEX_EMBEDDER": "none"}
    home = Home(path, root, {**kept, **given, **more})
    try:
        yield home
        stopped = home.run("stop")
        assert stopped.returncode == 0, stopped.stderr
        # The daemon closes its connections a moment before its process ends.
        _, left = psutil.wait_procs(home.processes(), timeout=_LAST_MOMENT_SECONDS)
        assert [str(process) for process in left] == []
    finally:
        kill_all(home.processes())


@dataclass(frozen=True)
class Refusal:
    """A tool's error: its code, and the text that a model reads."""

    code: str
    text: str


class Session:
    """An MCP client on a data folder."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a tool that must not fail."""
        result = await self.client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def refused(self, tool: str, **arguments: Any) -> Refusal:
        """The error of a tool that must fail."""
        result = await self.client.call_tool(tool, arguments)
        assert result.is_error, result.structured_content
        (block,) = result.content
        assert isinstance(block, TextContent)
        return Refusal((result.meta or {})["apex-mcp/error"]["code"], block.text)

    async def ended(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Ingest, and ask until it is over; the ingestion."""
        view = await self.call(tool, wait_seconds=30, **arguments)
        while not view["finished"]:
            known = {name: view[name] for name in ("ingestion_id", "namespace")}
            (view,) = (await self.call("get_ingestion", **known))["ingestions"]
        return view

    async def hits(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        return (await self.call("search", query=query, **arguments))["hits"]


@asynccontextmanager
async def session(home: Home, era: str = ERAS[0]) -> AsyncGenerator[Session]:
    """A client over stdio, as any assistant has one."""
    async with Client(home.server, mode=era) as client:
        yield Session(client)
