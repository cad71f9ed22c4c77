"""The indexes of one record on a Qdrant server: a collection each."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from qdrant_client import AsyncQdrantClient

from apex_mcp.errors import Code, Rejected
from apex_mcp.stores.vectors.qdrant_errors import translated

# Statistics of words by a corpus filter.
_OLDEST = (1, 19)
_TIMEOUT_SECONDS = 30
_CONNECTIONS = 32


@asynccontextmanager
async def qdrant_client(url: str, api_key: str | None) -> AsyncGenerator[AsyncQdrantClient]:
    """A client of a server that is new enough.

    Raises:
        Unavailable: the server does not answer.
        Rejected: the address is none, the server is too old or does not let us in (`settings_invalid`).
    """
    try:
        client = AsyncQdrantClient(
            url=url,
            timeout=_TIMEOUT_SECONDS,
            # As a header: given as a key, the client warns of plain HTTP, which is usual within a private network.
            headers={"api-key": api_key} if api_key else None,
            check_compatibility=False,
            # A server closes what is idle for five seconds, and must not be quicker.
            limits=httpx.Limits(
                max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=3
            ),
        )
    except ValueError as error:
        raise Rejected(
            "APEX_QDRANT_URL is not an address",
            code=Code.SETTINGS_INVALID,
            next_step="give it in the form http://host:6333",
        ) from error
    try:
        await _check(client)
        yield client
    finally:
        await client.close()


async def _check(client: AsyncQdrantClient) -> None:
    with translated():
        version = (await client.info()).version
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise Rejected(
            f"the Qdrant server is version {version}, and {oldest} or later is needed",
            code=Code.SETTINGS_INVALID,
            next_step=f"upgrade the server at APEX_QDRANT_URL to {oldest} or later",
        )
