"""The real control channel on both sides of a socket pair, with a Memory in a dict behind it."""

import asyncio
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from apex_mcp.caller import Caller
from apex_mcp.cli import app
from apex_mcp.runtime.client import DaemonClient
from apex_mcp.runtime.control import ControlSession, OwnOps
from apex_mcp.runtime.doctor import Check
from apex_mcp.runtime.launch import Link
from tests.server.notebook import Notebook

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("APEX_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("OPENAI_API_KEY", "APEX_ROOTS", "APEX_EMBEDDER"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def found() -> list[Check]:
    """What the daemon's doctor finds."""
    return [Check(name="PostgreSQL", state="ok", detail="version 18")]


@pytest.fixture
def maintained() -> dict[str, int]:
    """What the daemon's maintenance does."""
    return {"staged": 0}


@pytest.fixture
def connected(
    notebook: Notebook, found: list[Check], maintained: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> Generator[None]:
    """A daemon's control channel; connections are made without its door, which has tests of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    sessions: list[Any] = []

    async def memory() -> Notebook:
        return notebook

    async def doctor() -> list[Check]:
        return found

    async def maintain(erase: bool = False) -> dict[str, int]:
        return maintained

    async def serve(sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        own: OwnOps = {"doctor": doctor, "maintain": maintain}
        await ControlSession(reader, writer, caller=Caller(vouched=True), memory=memory, own=own).serve()
        # A command that does not wait for the end of a stream has gone by now.
        with suppress(OSError):
            await writer.wait_closed()

    def connect(home: str, *, start: bool = True, vouched: bool = False) -> DaemonClient:
        ours, theirs = socket.socketpair()
        sessions.append(asyncio.run_coroutine_threadsafe(serve(theirs), loop))
        return _Client(Link(ours, ours.makefile("rb"), {"version": "9"}))

    monkeypatch.setattr(DaemonClient, "connect", connect)
    yield
    for session in sessions:
        session.result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


class _Client(DaemonClient):
    def close(self) -> None:
        super().close()
        self._link._lines.close()


@pytest.fixture
def run() -> Run:
    """Run one command line."""

    def invoke(*arguments: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return invoke
