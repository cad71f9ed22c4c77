"""News of ingestions between processes, by Redis' channels."""

import asyncio
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from redis.exceptions import RedisError

from apex_mcp.stores.cache.redis_client import RedisClient
from apex_mcp.stores.progress import LOOK_SECONDS, SHARED_LOOK_SECONDS, ProcessProgress

_PAUSE_SECONDS = 1.0
_READ_SECONDS = 2.0
_ID_BYTES = 16

_log = logging.getLogger(__name__)


class RedisProgress:
    """News within this process at once, and to the others by a channel.

    A message is the sender's id and those of the ingestions. Missing one costs a waiter time only: while the channel is not
    heard, it looks more often.

    Args:
        client: Redis; the caller closes it, later.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._channel = client.key("progress")
        self._here = ProcessProgress()
        self._sender = uuid4().bytes
        self._unsent: set[UUID] = set()
        self._publisher: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._hears = False

    @property
    def look_seconds(self) -> float:
        """See `Progress`."""
        return LOOK_SECONDS if self._hears else SHARED_LOOK_SECONDS

    def publish(self, ingestion_ids: Iterable[UUID]) -> None:
        """See `Progress`."""
        changed = list(ingestion_ids)
        self._here.publish(changed)
        self._unsent.update(changed)
        if self._unsent and self._publisher is None:
            self._publisher = asyncio.create_task(self._send())

    @contextmanager
    def subscribe(self, ingestion_id: UUID) -> Generator[asyncio.Event]:
        """See `Progress`."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        with self._here.subscribe(ingestion_id) as event:
            yield event

    async def close(self) -> None:
        """Send what is not sent yet, and stop listening."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        if self._publisher is not None:
            await self._publisher

    async def _send(self) -> None:
        try:
            while self._unsent:
                message = self._sender + b"".join(one.bytes for one in self._unsent)
                self._unsent.clear()
                await self._client.ask(
                    lambda message=message: self._client.redis.publish(self._channel, message), otherwise=0
                )
        finally:
            self._publisher = None

    async def _listen(self) -> None:
        while True:
            try:
                async with self._client.redis.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(self._channel)
                    await self._hear(channel)
            except (RedisError, OSError, TimeoutError) as error:
                if self._hears:
                    _log.info("news of ingestions come by looking: %s", type(error).__name__)
            finally:
                self._hears = False
                # They wait as long as one does who hears.
                self._here.publish(self._here.awaited())
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _hear(self, channel: Any) -> None:
        # The server's word that it is subscribed; what was published before may have been missed.
        await channel.parse_response(block=True)
        self._hears = True
        self._here.publish(self._here.awaited())
        asked = False
        while True:
            message = await channel.get_message(timeout=_READ_SECONDS)
            if message is None:
                if asked:
                    raise TimeoutError
                await channel.ping()
                asked = True
                continue
            asked, data = False, message["data"]
            if isinstance(data, bytes) and not data.startswith(self._sender):
                self._here.publish(
                    UUID(bytes=data[start : start + _ID_BYTES])
                    for start in range(_ID_BYTES, len(data) - _ID_BYTES + 1, _ID_BYTES)
                )
