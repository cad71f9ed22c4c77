"""Waiting for what comes about by itself, and for what goes on meanwhile."""

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar, cast

import anyio

T = TypeVar("T")


async def eventually(condition: Callable[[], Awaitable[T] | T], seconds: float = 90) -> T:
    """The first true answer of `condition`; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        given = condition()
        answer = cast("T", await given if inspect.isawaitable(given) else given)
        if answer:
            return answer
        assert time.monotonic() < deadline, f"it did not come about in {seconds:g} s"
        await anyio.sleep(0.02)


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None]) -> AsyncGenerator[asyncio.Task[None]]:
    """It goes on to the end of the block, and is cancelled then."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
