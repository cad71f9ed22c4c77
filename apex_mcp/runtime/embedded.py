"""The daemon's services: PostgreSQL and Temporal as children where no server is set, the app over them, the worker."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import psutil

from apex_mcp.errors import ApexError, Code, Conflict, Unavailable
from apex_mcp.ingestion.room import require_room
from apex_mcp.runtime.doctor import Check, checks
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.imports import load
from apex_mcp.runtime.looking import look_at_servers
from apex_mcp.runtime.own_server import own_server
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_mcp.settings import Settings

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 60.0


class _Part(Protocol):
    """A child process: PostgreSQL or Temporal."""

    @property
    def pid(self) -> int | None: ...
    async def start(self) -> str: ...
    async def wait_dead(self) -> None: ...


class Embedded:
    """The running services of one data folder.

    Args:
        postgres: the bundled PostgreSQL; None where the settings name a server.
        temporal: the bundled Temporal, likewise.
    """

    def __init__(self, postgres: EmbeddedPostgres | None, temporal: EmbeddedTemporal | None) -> None:
        self.app: Any = None
        self._postgres = postgres
        self._temporal = temporal
        parts: dict[str, _Part | None] = {"postgres": postgres, "temporal": temporal}
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self._states = dict.fromkeys(self._parts, "ok")
        self._states["worker"] = "ok"
        self._lost = asyncio.Event()
        self._moved = asyncio.Event()
        self.notices: list[str] = []

    @property
    def memory(self) -> Any:
        return self.app.memory

    async def busy(self) -> bool:
        """Whether an ingestion is unfinished."""
        return await self.app.busy()

    async def lost(self) -> None:
        """Return when the app must be opened anew: a part came back elsewhere, or the record may have another owner."""
        waits = [asyncio.create_task(self._lost.wait())]
        if self.app.ownership is not None:
            waits.append(asyncio.create_task(self.app.ownership.lost()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def status(self) -> dict[str, Any]:
        """Each part with its state, pid and memory; notices; whether work is unfinished."""
        services = [
            {"name": name, "state": self._states[name], "pid": part.pid, "rss_bytes": _family_rss(part.pid)}
            for name, part in self._parts.items()
        ]
        services += await look_at_servers(self.app)
        services.append({"name": "worker", "state": self._states["worker"], "pid": None, "rss_bytes": None})
        try:
            unfinished = await self.busy()
        except ApexError:
            unfinished = None
        return {"services": services, "notices": [*self.notices, *self._full()], "unfinished": unfinished}

    def _full(self) -> list[str]:
        """What to say of a disk that is all but full."""
        settings: Settings = self.app.settings
        try:
            require_room(settings.home if settings.stores_at_home else None)
        except Unavailable as error:
            return [f"{error.message}; {error.next_step}"]
        return []

    async def ui(self) -> str:
        """Start Temporal's web UI; its address.

        Raises:
            Conflict: Temporal is a server of the user's (`not_retryable`).
        """
        if self._temporal is None:
            raise Conflict(
                "Temporal runs on a server of yours, which has a web interface of its own",
                code=Code.NOT_RETRYABLE,
                next_step="open the one that belongs to APEX_TEMPORAL_ADDRESS",
            )
        return await self._temporal.start_ui()

    async def doctor(self) -> list[Check]:
        """A check of each part."""
        return await checks(self.app)

    async def maintain(self, *, erase: bool) -> dict[str, int]:
        """Run maintenance through Temporal; what it did.

        Raises:
            Unavailable: Temporal or a store does not answer.
        """
        from apex_mcp.runtime.maintaining import maintain

        return await maintain(self.app.temporal_client, self.app.task_queue, erase=erase)

    async def workflows(self, limit: int) -> list[dict[str, Any]]:
        """The most recent workflow runs, newest first.

        Raises:
            Unavailable: Temporal does not answer.
        """
        from temporalio.service import RPCError

        runs: list[dict[str, Any]] = []
        try:
            async for run in self.app.temporal_client.list_workflows(limit=limit):
                ended = run.close_time
                runs.append({
                    "id": run.id,
                    "type": run.workflow_type,
                    "status": run.status.name.lower() if run.status else "unknown",
                    "started": run.start_time,
                    "duration_ms": round((ended - run.start_time).total_seconds() * 1000) if ended else None,
                    "history_length": run.history_length,
                })
        except RPCError as error:
            raise Unavailable(
                "Temporal does not answer",
                code=Code.TEMPORAL_UNAVAILABLE,
                next_step="it is restarted by itself; try again in a few seconds",
                retry_after_seconds=5,
            ) from error
        return runs

    async def backup(self, path: Path, *, force: bool) -> AsyncGenerator[int]:
        """Write a backup of the data folder while all goes on; yields the bytes that were taken.

        Raises:
            Conflict: PostgreSQL is a server of the user's (`not_retryable`), or there is a file already (`file_exists`).
            InputError: nothing can be written there.
            Unavailable: the record does not answer, or the disk is full; no file is left.
        """
        if self._postgres is None:
            raise own_server("backed up")
        from apex_mcp.runtime.backup import write_backup  # off the way of a start

        async for size in write_backup(
            DataFolder(self.app.settings.home),
            self.app.record,
            programs=self._postgres.programs,
            conninfo=self._postgres.conninfo(),
            path=path,
            force=force,
        ):
            yield size

    async def keep_part(self, name: str, address: str) -> None:
        """Start a part again whenever it dies, ever more slowly while it dies at once."""
        loop = asyncio.get_running_loop()
        part, pause, since = self._parts[name], _FIRST_PAUSE_SECONDS, loop.time()
        while True:
            await part.wait_dead()
            if loop.time() - since > _STABLE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self._states[name] = "down"
            logger.warning("%s died, starting it again", name)
            try:
                again = await part.start()
                if again != address and self.app is not None and part is self._temporal:
                    # Nothing that reads needs it; the worker is started again with the app that knows its place.
                    self.app, address = await self.app.with_temporal_at(again), again
                    self._moved.set()
            except ApexError as error:
                logger.error("%s did not start: %s", name, error.code)
                await asyncio.sleep(pause)
            else:
                self._states[name], since = "ok", loop.time()
                if again != address:
                    self._lost.set()
                    return
                await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def keep_worker(self) -> None:
        """Run the worker, and run it again should it ever end."""
        run_worker = _find_worker()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self._moved.clear()
            self._states["worker"] = "ok"
            running = asyncio.create_task(run_worker(self.app))
            moved = asyncio.create_task(self._moved.wait())
            try:
                await asyncio.wait({running, moved}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _cancel([running, moved])
            if running.cancelled():
                continue
            # Ingestions wait; reading goes on.
            if (error := running.exception()) is not None:
                logger.error(
                    "worker failed: %s", error if isinstance(error, ApexError) else type(error).__name__
                )
            self._states["worker"] = "down"
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


@contextlib.asynccontextmanager
async def open_embedded(settings: Settings, folder: DataFolder) -> AsyncGenerator[Embedded]:
    """Start what is not running and not on a server of the user's, and end it all on leaving.

    Raises:
        ApexError: a part could not be started or reached; whatever had been started is ended.
    """
    notices: list[str] = []
    postgres = temporal = None
    if settings.database_url is None:
        postgres = EmbeddedPostgres(folder, on_progress=lambda words: logger.info("postgres: %s", words))
    if settings.temporal_address is None:
        temporal = EmbeddedTemporal(folder, program=settings.temporal_path, on_notice=notices.append)
    embedded = Embedded(postgres, temporal)
    embedded.notices = notices
    async with contextlib.AsyncExitStack() as stack:
        for part in (postgres, temporal):
            if part is not None:
                stack.push_async_callback(part.stop)
        conninfo, address, app_module = await _all(
            _started(postgres), _started(temporal), asyncio.to_thread(load, "apex_mcp.app")
        )
        tasks = [
            asyncio.create_task(embedded.keep_part(name, where))
            for name, where in (("postgres", conninfo), ("temporal", address))
            if where is not None
        ]
        stack.push_async_callback(_cancel, tasks)
        embedded.app = await stack.enter_async_context(
            app_module.open_app(settings, folder=folder, conninfo=conninfo, temporal_address=address)
        )
        worker = asyncio.create_task(embedded.keep_worker())
        stack.push_async_callback(_cancel, [worker])
        yield embedded


async def _started(part: _Part | None) -> str | None:
    return await part.start() if part is not None else None


async def _all(*starting: Awaitable[Any]) -> list[Any]:
    """Await all of them even if one fails, so that nothing is still starting while it is being stopped."""
    results = await asyncio.gather(*starting, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _find_worker() -> Callable[[Any], Coroutine[Any, Any, None]]:
    """The worker, by entry point: nothing in apex_mcp imports it."""
    [found] = entry_points(group="apex_mcp.worker", name="embedded")
    return found.load()


def _family_rss(pid: int | None) -> int | None:
    """Memory of a process and its children; shared pages count once for each, so it is an upper bound."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return None
