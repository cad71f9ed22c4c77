"""MCP over stdio, by hand: an SDK's client would take more of the machine than the server that is measured."""

import asyncio
import itertools
import json
import re
import subprocess
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

_PROTOCOL = "2025-06-18"
_LIMIT_BYTES = 1 << 24
_PATIENCE_SECONDS = 120.0
_ID = re.compile(rb'"id":(\d+)[,}]')

INITIALIZE = {
    "protocolVersion": _PROTOCOL,
    "capabilities": {},
    "clientInfo": {"name": "benchmarks", "version": "1"},
}


class ToolFailed(Exception):
    """A tool answered with an error."""


class Stdio:
    """One client, one request at a time; a context manager that ends the stdio process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.spawned = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._ids = itertools.count(1)

    def initialize(self) -> None:
        self.request("initialize", INITIALIZE)
        self._send({"method": "notifications/initialized"})

    def tool(self, tool: str, **arguments: Any) -> Any:
        """Call a tool; its structured answer."""
        return _structured(self.request("tools/call", {"name": tool, "arguments": arguments}))

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        number = next(self._ids)
        self._send({"id": number, "method": method, "params": params})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            if message.get("id") == number and "method" not in message:
                return message
        raise ToolFailed("the stdio process ended")

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_PATIENCE_SECONDS)
        self._process.stdout.close()


class Pump:
    """One stdio process that many callers share, as the windows of one client do; made by `Pumps`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._reader = asyncio.create_task(self._read())

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "method": method, "params": params})
        return json.loads(await asyncio.wait_for(answered, _PATIENCE_SECONDS))

    async def tool(self, tool: str, **arguments: Any) -> Any:
        """Call a tool; its structured answer."""
        return _structured(await self.request("tools/call", {"name": tool, "arguments": arguments}))

    async def initialize(self) -> None:
        await self.request("initialize", INITIALIZE)
        self._send({"method": "notifications/initialized"})

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            # The id stands before anything of the answer's own, so a line is parsed once, by who waits for it.
            found = _ID.search(line[:64])
            answered = self._waiting.pop(int(found[1]), None) if found else None
            if answered is not None and not answered.done():
                answered.set_result(line)
        for answered in self._waiting.values():
            answered.set_exception(ToolFailed("the stdio process ended"))


class Pumps:
    """Several stdio processes; an async context manager that gives them, initialised."""

    def __init__(self, count: int, command: Sequence[str], environment: dict[str, str]) -> None:
        self._count = count
        self._command = command
        self._environment = environment
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> list[Pump]:
        pumps: list[Pump] = []
        for _ in range(self._count):
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._environment,
                limit=_LIMIT_BYTES,
            )
            pump = Pump(process)
            self._stack.push_async_callback(pump.close)
            await pump.initialize()
            pumps.append(pump)
        return pumps

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()


def _structured(message: dict[str, Any]) -> Any:
    result = message.get("result")
    if result is None or result.get("isError"):
        raise ToolFailed(json.dumps(message)[:500])
    return result["structuredContent"]
