"""The whole app with its worker in a process that dies, or stops, at a fault point, and is started again in a moment."""

import asyncio
import multiprocessing
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import anyio
import psutil
import psycopg

from apex_mcp.settings import Settings

_ANSWER_SECONDS = 60.0
_LOOK_SECONDS = 0.01

# Started once, with everything imported: a child of it is there in the time of a fork.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([
    "tests.faults.living",
    "apex_mcp.app",
    "apex_worker.embedded",
    "apex_mcp.ingestion.enriching.graphiti_extractor",
])


class Died(Exception):
    """The process ended before it answered."""


@dataclass(frozen=True)
class Place:
    """Where a process runs: its settings, its servers, and the folder in which faults are asked for."""

    settings: dict[str, Any]
    conninfo: str
    temporal: str
    faults: Path

    def ask(self, point: str, action: str) -> None:
        """Ask for a fault."""
        (self.faults / f"{point}.{action}").touch()

    def met(self, point: str, action: str) -> bool:
        return (self.faults / f"{point}.{action}-met").exists()

    def clear(self) -> None:
        """No fault is asked for, and none was met."""
        for path in self.faults.iterdir():
            path.unlink()

    def rows(self, query: LiteralString, *bound: Any) -> list[tuple[Any, ...]]:
        """What PostgreSQL says."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            return connection.execute(query, bound).fetchall()

    def change(self, query: LiteralString, *bound: Any) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(query, bound)


class Living:
    """One process at a time on a place."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Start it, unless it runs."""
        if self._process is not None and self._process.is_alive():
            return
        self.kill()
        ours, theirs = _SERVER.Pipe()
        self._process = _SERVER.Process(target=_live, args=(theirs, self.place))
        self._process.start()
        theirs.close()
        self._connection = ours
        await self._answer()

    async def call(self, operation: str, **arguments: Any) -> Any:
        """Call an operation of the memory; its view as data.

        Raises:
            Died: the process ended meanwhile.
            ApexError: as the operation.
        """
        assert self._connection is not None
        self._connection.send((operation, arguments))
        return await self._answer()

    async def _answer(self) -> Any:
        assert self._connection is not None
        deadline = time.monotonic() + _ANSWER_SECONDS
        try:
            while not self._connection.poll():
                assert time.monotonic() < deadline, "the process does not answer"
                await anyio.sleep(_LOOK_SECONDS)
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            raise Died from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def died(self) -> None:
        """Wait until it is dead."""
        assert self._process is not None
        deadline = time.monotonic() + _ANSWER_SECONDS
        while self._process.is_alive():
            assert time.monotonic() < deadline, "the fault was not met"
            await anyio.sleep(_LOOK_SECONDS)

    async def stopped(self) -> None:
        """Wait until it is stopped."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while self._system().status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "the fault was not met"
            await anyio.sleep(_LOOK_SECONDS)

    def wake(self) -> None:
        """Let it go on."""
        self._system().resume()

    def kill(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _system(self) -> psutil.Process:
        assert self._process is not None
        assert self._process.pid is not None
        return psutil.Process(self._process.pid)


def _live(connection: Connection, place: Place) -> None:
    os.environ["APEX_FAULTS"] = str(place.faults)
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(connection, place))


async def _serve(connection: Connection, place: Place) -> None:
    from apex_mcp.app import open_app
    from apex_mcp.runtime.home import DataFolder
    from apex_worker.embedded import run_worker
    from tests.e2e.apps import CALLER

    settings = Settings(**place.settings)
    folder = DataFolder(settings.home).prepare()
    async with open_app(
        settings, folder=folder, conninfo=place.conninfo, temporal_address=place.temporal
    ) as app:
        worker = asyncio.create_task(run_worker(app))
        connection.send("up")
        while True:
            operation, arguments = await asyncio.to_thread(connection.recv)
            try:
                if operation == "flush":
                    answer = await app.index.flush()
                elif operation == "points":
                    answer = await _points(app.vectors)
                else:
                    view = await getattr(app.memory, operation)(CALLER, **arguments)
                    answer = view.model_dump(mode="json")
            except Exception as error:  # noqa: BLE001  (the parent's to see)
                answer = error
            connection.send(answer)
            assert not worker.done()


async def _points(vectors: Any) -> dict[UUID, int]:
    return {one: await vectors.count(version_id=one) for one in await vectors.version_ids()}
