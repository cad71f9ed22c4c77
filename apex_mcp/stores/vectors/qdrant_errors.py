"""What the Qdrant client's failures mean to us. The one place where they are translated."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import httpx
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from apex_mcp.errors import ApexError, Code, Invariant, Rejected, Unavailable
from apex_mcp.stores.breaker import ANSWERED

MISSING = "missing"
# A server that is there answers what only looks within a moment.
LOOK_SECONDS = 4.0
_NOT_LET_IN = frozenset({401, 403})
_BUSY = frozenset({408, 429})

T = TypeVar("T")


@contextmanager
def translated() -> Generator[None]:
    """Turn the client's errors into ours, the cause kept.

    Raises:
        Unavailable: the server does not answer, or has no such collection (cause `missing`).
        Rejected: it does not let us in.
        Invariant: it does not understand us.
    """
    try:
        yield
    except UnexpectedResponse as error:
        raise _of_status(error.status_code or 0) from error
    except ResourceExhaustedResponse as error:
        raise unavailable("busy", retry_after_seconds=float(error.retry_after_s)) from error
    except ResponseHandlingException as error:
        raise unavailable(type(error.source).__name__) from error
    except (httpx.HTTPError, TimeoutError) as error:
        raise unavailable(type(error).__name__) from error


async def soon(ask: Callable[[], Awaitable[T]]) -> T:
    """An answer to what only looks, within `translated`: whoever asks does not wait for a server that hangs.

    Raises:
        TimeoutError: none came in a few seconds.
    """
    async with asyncio.timeout(LOOK_SECONDS):
        return await ask()


def unavailable(cause: str, *, retry_after_seconds: float = 2) -> Unavailable:
    """The server does not answer now; `cause` is a word without content."""
    return Unavailable(
        "the Qdrant server does not answer",
        code=Code.VECTORS_UNAVAILABLE,
        unchanged="the record is complete without it",
        next_step="see that it runs and can be reached at APEX_QDRANT_URL; what waits for it goes on by itself",
        retry_after_seconds=retry_after_seconds,
        details={"cause": cause, ANSWERED: cause == MISSING},
    )


def is_missing(error: ApexError) -> bool:
    """Whether the collection was not there."""
    return error.details.get("cause") == MISSING


def _of_status(status: int) -> ApexError:
    if status in _NOT_LET_IN:
        return Rejected(
            "the Qdrant server does not let us in",
            code=Code.SETTINGS_INVALID,
            next_step="set APEX_QDRANT_API_KEY to a key that may read and write",
            details={"status": status},
        )
    if status == 404:
        return unavailable(MISSING)
    if status >= 500 or status in _BUSY:
        return unavailable(f"status {status}")
    return Invariant(
        "the Qdrant server does not understand what it is asked",
        next_step="see that it is a Qdrant server of version 1.19 or later",
        details={"status": status},
    )
