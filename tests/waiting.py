"""Waiting for what comes about by itself."""

import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

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
