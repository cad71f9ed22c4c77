"""The bell of processes that share a record: a ring reaches them all, by PostgreSQL's LISTEN and NOTIFY."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import LiteralString
from uuid import uuid4

import psycopg

from apex_mcp.errors import ApexError
from apex_mcp.models import Lane
from apex_mcp.stores.bell import ENRICHMENT, REMOVAL, Bell, Kind
from apex_mcp.stores.record.database import Database
from apex_mcp.stores.record.session_lock import open_session

_log = logging.getLogger(__name__)

_LISTEN: LiteralString = "LISTEN apex_bell"
_NOTIFY: LiteralString = "SELECT pg_notify('apex_bell', %s)"
_RETRY_SECONDS = 1.0
_ANY = "any"


class RecordBell(Bell):
    """Rings in this process at once, and in the others as soon as PostgreSQL tells them.

    A ring that is lost with a connection costs time only: dispatchers look into the outbox now and then, too. Rings that
    come while one is on its way go with the next, so that no burst of notes becomes a burst of notifications.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._sender = uuid4().hex[:12]
        self._waiting: set[str] = set()
        self._due = asyncio.Event()

    def ring(self, kinds: Iterable[Kind] | None = None) -> None:
        """See `Bell`."""
        rung = None if kinds is None else list(kinds)
        super().ring(rung)
        self._waiting.update([_ANY] if rung is None else map(_word, rung))
        if self._waiting:
            self._due.set()

    async def run(self) -> None:
        """Tell and hear until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell())
            tasks.create_task(self._hear())

    async def _tell(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            words, self._waiting = self._waiting, set()
            try:
                async with self._database.connection() as connection:
                    await connection.execute(_NOTIFY, (" ".join([self._sender, *sorted(words)]),))
            except ApexError:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _hear(self) -> None:
        while True:
            with suppress(psycopg.Error, OSError, ApexError):
                async with await open_session(self._database.conninfo, "apex-mcp bell") as connection:
                    await connection.execute(_LISTEN)
                    super().ring()  # whatever was rung while nobody heard
                    async for notification in connection.notifies():
                        self._heard(notification.payload)
            _log.warning("the bell's connection broke")
            await asyncio.sleep(_RETRY_SECONDS)

    def _heard(self, payload: str) -> None:
        sender, *words = payload.split()
        if sender == self._sender:
            return
        kinds: dict[str, Kind] = {_word(kind): kind for kind in _KINDS}
        if _ANY in words:
            super().ring()
        else:
            super().ring([kinds[word] for word in words if word in kinds])


_KINDS: tuple[Kind, ...] = (*((lane, bulk) for lane in Lane for bulk in (False, True)), ENRICHMENT, REMOVAL)


def _word(kind: Kind) -> str:
    if isinstance(kind, str):
        return kind
    lane, bulk = kind
    return f"{lane}-bulk" if bulk else str(lane)


@asynccontextmanager
async def shared_bell(database: Database) -> AsyncGenerator[RecordBell]:
    """A bell that is connected until the block ends."""
    bell = RecordBell(database)
    running = asyncio.create_task(bell.run())
    try:
        yield bell
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
