"""Clients that go on: a session that broke is opened again, and a refusal that may pass is an answer like any other."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

from tests.chaos.timeline import Timeline
from tests.e2e.homes import Session

# Longer than any call here waits; a session that hangs for so long is left.
_CALL_SECONDS = 25.0
_PAUSE_SECONDS = 0.2

_LEAVING_SECONDS = 5.0

OpenSession = Callable[[], AbstractAsyncContextManager[Session]]
_Call = tuple[Callable[[Session], Awaitable[Any]], "asyncio.Future[Any]"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; without `data` the call failed, with a code of ours or without (`broken`: the connection)."""

    began: float
    ended: float
    data: dict[str, Any] | None = None
    code: str = ""
    retryable: bool = True
    details: dict[str, Any] = field(default_factory=dict[str, Any])


class Caller:
    """One client, in a task of its own, so that a session that hangs can be left.

    Args:
        open_session: how it connects.
        timeline: where failures are noted.
    """

    def __init__(self, open_session: OpenSession, timeline: Timeline) -> None:
        self._open = open_session
        self._timeline = timeline
        self._calls: asyncio.Queue[_Call] = asyncio.Queue()
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Caller":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def call(self, tool: str, **arguments: Any) -> Answer:
        """One call, made once."""
        began = time.monotonic()
        try:
            result = await self._within(lambda session: session.client.call_tool(tool, arguments))
        except Exception as broken:  # noqa: BLE001  (whatever a client's library makes of a connection that breaks)
            self._timeline.count(f"broken {type(broken).__name__}")
            return Answer(began, time.monotonic(), code="broken")
        ended = time.monotonic()
        if not result.is_error:
            return Answer(began, ended, data=result.structured_content or {})
        meta: dict[str, Any] = result.meta or {}
        error: dict[str, Any] = meta.get("apex-mcp/error", {})
        code = str(error.get("code", "without a code"))
        self._timeline.count(f"refused {code}")
        return Answer(
            began, ended, code=code, retryable=bool(error.get("retryable")), details=error.get("details", {})
        )

    async def until_answered(self, tool: str, **arguments: Any) -> Answer:
        """The call again and again, until it succeeds or a refusal stays."""
        while True:
            answer = await self.call(tool, **arguments)
            if answer.data is not None or not answer.retryable:
                return answer
            await anyio.sleep(_PAUSE_SECONDS)

    async def has_tool(self, name: str) -> bool:
        """Whether the server has a tool of this name."""
        listed = await self._within(lambda session: session.client.list_tools())
        return name in {tool.name for tool in listed.tools}

    async def _within(self, work: Callable[[Session], Awaitable[Any]]) -> Any:
        if self._serving is None or self._serving.done():
            self._calls = asyncio.Queue()
            self._serving = asyncio.create_task(self._serve(self._calls))
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.put_nowait((work, answer))
        try:
            await asyncio.wait(
                [answer, self._serving], timeout=_CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if answer.done():
                return answer.result()
            raise TimeoutError
        except BaseException:
            await self._leave()
            raise

    async def _serve(self, calls: "asyncio.Queue[_Call]") -> None:
        async with self._open() as session:
            while True:
                work, answer = await calls.get()
                try:
                    answer.set_result(await work(session))
                except Exception as error:  # noqa: BLE001  (the caller's to see)
                    answer.set_exception(error)

    async def _leave(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            with suppress(BaseExceptionGroup, Exception, asyncio.CancelledError):
                await asyncio.wait_for(serving, _LEAVING_SECONDS)
