"""The indexes of one record on a Qdrant server: a collection each."""

import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from uuid import UUID

import httpx
from qdrant_client import AsyncQdrantClient

from apex_mcp.addresses import is_http
from apex_mcp.errors import Code, Rejected
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.vectors.qdrant_errors import soon, translated
from apex_mcp.stores.vectors.qdrant_server import QdrantVectorIndex

# Statistics of words by a corpus filter.
_OLDEST = (1, 19)
_TIMEOUT_SECONDS = 30
_CONNECTIONS = 32
# Searches that began in an index before it was replaced are over by then.
_GRACE_SECONDS = 30.0


class QdrantHome:
    """An `IndexHome` of a server.

    Args:
        client: of the server; whoever made it closes it.
        record_id: the record; its collections bear the beginning of its id, so that several records share a server.
        breaker: around every call.
        grace_seconds: how long an index that is not in use stays.
    """

    shared = True

    def __init__(
        self,
        client: AsyncQdrantClient,
        record_id: UUID,
        *,
        breaker: CircuitBreaker | None = None,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        self._client = client
        self._prefix = f"apex-{record_id.hex[:8]}-"
        self._breaker = breaker
        self._grace_seconds = grace_seconds
        self._checked = False
        self._unused_since: dict[str, float] = {}

    async def open(
        self,
        name: str,
        *,
        record_id: UUID,
        embedder: str | None,
        dimension: int | None,
        on_lost: Callable[[], None],
        on_empty: Callable[[], Awaitable[None]],
    ) -> QdrantVectorIndex:
        """Open an index, or make it; for one process of the record at a time.

        Raises:
            Unavailable: the server does not answer.
            Rejected: it is too old, or does not let us in (`settings_invalid`).
        """
        if not self._checked:
            with self._guarded():
                await check_version(self._client)
            self._checked = True
        return await QdrantVectorIndex.open(
            self._client,
            self._prefix + name,
            record_id=record_id,
            embedder=embedder,
            dimension=dimension,
            breaker=self._breaker,
            on_lost=on_lost,
            on_empty=on_empty,
        )

    async def verify(self) -> None:
        """Ask the server whether it is there; of its collections nothing.

        Raises:
            Unavailable: it does not answer.
            Rejected: it is too old, or does not let us in (`settings_invalid`).
        """
        with self._guarded():
            await check_version(self._client)

    async def remove(self, name: str) -> None:
        """Remove an index in which nobody searches, at once; nothing where it is not there. Raises Unavailable."""
        with self._guarded(), translated():
            if await self._client.collection_exists(self._prefix + name):
                await self._client.delete_collection(self._prefix + name)

    async def remove_others(self, *names: str) -> None:
        """Remove the record's other collections, each when it was seen unused for a while."""
        with self._guarded(), translated():
            found = {one.name for one in (await self._client.get_collections()).collections}
        others = {one for one in found if one.startswith(self._prefix)} - {
            self._prefix + name for name in names
        }
        now = time.monotonic()
        self._unused_since = {one: self._unused_since.get(one, now) for one in others}
        for one, since in self._unused_since.items():
            if now - since >= self._grace_seconds:
                with self._guarded(), translated():
                    await self._client.delete_collection(one)

    def _guarded(self) -> AbstractContextManager[None]:
        return self._breaker.guard() if self._breaker is not None else nullcontext()


@asynccontextmanager
async def qdrant_client(url: str, api_key: str | None) -> AsyncGenerator[AsyncQdrantClient]:
    """A client of a server; nobody is asked yet.

    Raises:
        Rejected: the address is none (`settings_invalid`).
    """
    if not is_http(url):
        raise Rejected(
            "APEX_QDRANT_URL (QDRANT_URL) is not an address",
            code=Code.SETTINGS_INVALID,
            next_step="give it in the form http://host:6333",
            details={"settings": ["qdrant_url"]},
        )
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
    try:
        yield client
    finally:
        await client.close()


async def check_version(client: AsyncQdrantClient) -> None:
    """See that the server is new enough.

    Raises:
        Unavailable: it does not answer.
        Rejected: it is too old, or does not let us in (`settings_invalid`).
    """
    with translated():
        version = (await soon(client.info)).version
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise Rejected(
            f"the Qdrant server is version {version}, and {oldest} or later is needed",
            code=Code.SETTINGS_INVALID,
            next_step=f"upgrade the server at APEX_QDRANT_URL to {oldest} or later",
        )
