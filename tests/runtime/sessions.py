"""A pump as a process of its own, spoken to line by line; and what the daemons of a test leave behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self, TypeVar

import psutil

from apex_mcp.runtime.client import DaemonClient
from tests.runtime.tiny import MODULE

DEADLINE_SECONDS = 30.0
REPOSITORY = Path(__file__).parents[2]

HANDSHAKE: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"roots": {}},
    "clientInfo": {"name": "test", "version": "1"},
}

T = TypeVar("T")


def eventually(what: Callable[[], T | None]) -> T:
    """The first true answer; fails when none comes in time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.01)
    raise AssertionError("it did not come about in time")


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APEX_")}
    return {**kept, "APEX_HOME": str(home), "PYTHONPATH": str(REPOSITORY), **more}


class Session:
    """One MCP client over one pump."""

    def __init__(self, home: Path, *arguments: str, **more: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.runtime.tiny_pump", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(home, **more),
            start_new_session=True,
        )
        self._lines: Queue[bytes] = Queue()
        self._heard: list[bytes] = []
        self._count = 0
        self._readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._hear, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stderr(self) -> str:
        return b"".join(self._heard).decode()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def _hear(self) -> None:
        assert self._process.stderr is not None
        self._heard.extend(self._process.stderr)

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any] | None = None) -> int:
        """Send a request; its id."""
        self._count += 1
        self.send({"id": self._count, "method": method, **({} if params is None else {"params": params})})
        return self._count

    def receive(self) -> dict[str, Any]:
        return json.loads(self._lines.get(timeout=DEADLINE_SECONDS))

    def silent(self) -> bool:
        """Whether nothing else has come."""
        try:
            self._lines.get_nowait()
        except Empty:
            return True
        return False

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, and return the response, which must be the next line."""
        number = self.ask(method, params)
        response = self.receive()
        assert response["id"] == number, response
        return response

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.request("tools/call", {"name": tool, "arguments": arguments})

    def initialize(self) -> dict[str, Any]:
        response = self.request("initialize", HANDSHAKE)
        self.send({"method": "notifications/initialized"})
        return response

    def end(self) -> int:
        """Close the client's side; the pump's exit status."""
        self.close_stdin()
        status = self._process.wait(DEADLINE_SECONDS)
        self._forget()
        return status

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _forget(self) -> None:
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def kill_group(self) -> None:
        """What an MCP client does to its server: end the whole process group."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


def info(home: Path) -> dict[str, Any]:
    return json.loads((home / "daemon.json").read_text("utf-8"))


def daemons(home: Path) -> list[psutil.Process]:
    """The daemons of `home` that run, or are about to."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command: list[str] = process.info["cmdline"] or []
        # The shell that starts a daemon carries the same words, for a millisecond.
        ended = process.info["status"] == psutil.STATUS_ZOMBIE
        if command[1:4] == ["-P", "-m", MODULE] and str(home) in command and not ended:
            found.append(process)
    return found


def control(home: Path, **options: Any) -> DaemonClient:
    return DaemonClient.connect(str(home), module=MODULE, **options)
