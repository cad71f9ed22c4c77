"""The daemon at work: it takes connections, tells who may come in, and knows when to stop."""

import asyncio
import contextlib
import hmac
import importlib
import logging
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

from apex_mcp import __version__
from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, Code, Rejected
from apex_mcp.logs import log_to
from apex_mcp.runtime import wire
from apex_mcp.runtime.clients import identify
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.pauses import PauseWatch
from apex_mcp.runtime.services import Keeper, OpenServices, Services
from apex_mcp.settings import Settings, load_settings
from apex_mcp.signals import on_stop

logger = logging.getLogger(__name__)

_MAX_HELLO_BYTES = 1 << 20
_STOP_GRACE_SECONDS = 2.0
_DRAIN_GRACE_SECONDS = 5.0
_BUSY_CHECK_SECONDS = 15.0
_REFUSING_SECONDS = 1.0
# Longer than PostgreSQL is given to write everything.
_STOP_AT_LAST_SECONDS = 60.0


def serve(listener: socket.socket, *, token: str, folder: DataFolder, services: str) -> None:
    """Serve until stopped; everything that was started is ended on return.

    Raises:
        Rejected: the daemon's own settings are not valid.
    """
    log_to(folder.log("daemon"))
    try:
        settings = load_settings(home=folder.path)
    except ApexError as error:
        # Whoever brought them hears it at the hello; a daemon that just vanished would leave him guessing.
        settings, failure = Settings.model_construct(home=folder.path), error
    else:
        failure = None
        logging.getLogger("apex_mcp").setLevel(settings.log_level.upper())
    watch = PauseWatch()
    # psycopg's async connections need a selector loop on Windows, where it is not the default.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(watch)) as runner:
        daemon = Daemon(listener, token=token, folder=folder, settings=settings, watch=watch, failure=failure)
        runner.run(daemon.run(services))


class Daemon:
    """One data folder's daemon.

    Args:
        listener: takes clients already.
        token: what a client must know.
        folder: the data folder.
        settings: the daemon's.
        watch: measures the event loop's pauses.
        failure: why nobody can be served, where that is so; then the daemon only says it, for a moment.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        token: str,
        folder: DataFolder,
        settings: Settings,
        watch: PauseWatch,
        failure: ApexError | None,
    ) -> None:
        self._listener = listener
        self._token = token
        self._folder = folder
        self._settings = settings
        self._watch = watch
        self._failure = failure
        self._started = time.monotonic()
        self._stopping = asyncio.Event()
        self._farewell = wire.FAREWELL_STOPPED
        self._handlers: set[asyncio.Task[None]] = set()
        self._sessions: set[Any] = set()
        self._connections = 0
        self._came_and_went = asyncio.Event()

    async def run(self, services: str) -> None:
        """Serve until `stop`."""
        loop = asyncio.get_running_loop()
        on_stop(loop, self.stop)
        self._server: asyncio.Future[tuple[Any, Any]] = loop.create_future()
        server = await asyncio.start_server(self._accept, sock=self._listener, limit=wire.MAX_LINE_BYTES)
        if self._failure is not None:
            logger.error("not serving: %s", self._failure)
            await asyncio.sleep(_REFUSING_SECONDS)
            server.close()
            await self._end_handlers()
            return
        logger.info("listening, version %s, pid %d", __version__, os.getpid())
        # In a thread, so that the loop hears meanwhile; the server first, since clients wait for it.
        self._keeper = Keeper(_opener(services, self._settings, self._folder))
        lowlevel = await asyncio.to_thread(_build_server, self._keeper)
        # Loading the SDK holds the interpreter's lock for half a second; nobody is being served before it is over.
        self._watch.longest_seconds = 0.0
        async with lowlevel.lifespan(lowlevel) as lifespan_state:
            self._server.set_result((lowlevel, lifespan_state))
            self._keeper.start()
            idle = asyncio.create_task(self._stop_when_idle())
            await self._stopping.wait()
            logger.info("stopping (%s)", self._farewell)
            idle.cancel()
            server.close()
            # First of all: from now on a client that looks for a daemon waits for the next one.
            self._folder.daemon_json.unlink(missing_ok=True)
            await self._leave_clients()
            await self._keeper.close()
            await self._end_handlers()
        logger.info("stopped")

    def stop(self, farewell: str = wire.FAREWELL_STOPPED) -> None:
        """End the daemon, gracefully; whatever hangs then doesn't keep the data folder from the next one."""
        if not self._stopping.is_set():
            last_resort = threading.Timer(_STOP_AT_LAST_SECONDS, os._exit, (1,))
            last_resort.daemon = True
            last_resort.start()
            self._farewell = farewell
            self._stopping.set()

    async def _leave_clients(self) -> None:
        moved = self._farewell == wire.FAREWELL_MOVED
        grace = _DRAIN_GRACE_SECONDS if moved else _STOP_GRACE_SECONDS
        leaving = [session.leave(self._farewell, grace_seconds=grace) for session in self._sessions]
        await asyncio.gather(*leaving, return_exceptions=True)

    async def _end_handlers(self) -> None:
        """Control connections stay open until all has ended, so that `apex-mcp stop` can wait for that."""
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    # --- connections ---------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        try:
            await self._admit(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001  (one connection's fault is no other's)
            logger.error("connection failed: %s", type(error).__name__)
        finally:
            writer.close()
            self._handlers.discard(task)

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with asyncio.timeout(wire.HELLO_SECONDS):
            knock = wire.decode(await _read_hello_line(reader))
            if "challenge" not in knock:
                return
            writer.write(wire.encode({"proof": wire.proof(self._token, str(knock["challenge"]))}))
            hello = wire.decode(await _read_hello_line(reader))
        try:
            self._require_welcome(knock, hello)
            if hello.get("mode") == wire.MODE_DRAIN:
                _reply(writer, [])
                self.stop(wire.FAREWELL_MOVED)
                # Open until the very end: whoever takes over waits for that.
                await asyncio.Event().wait()
            try:
                client = identify(hello, self._settings)
            except ApexError as error:
                if hello.get("mode") != wire.MODE_CONTROL or self._failure is not None:
                    raise
                # Whoever broke config.toml can still look at the daemon that runs, and stop it.
                _reply(writer, [str(error)])
                with self._counted():
                    await self._serve_control(reader, writer, Caller(), refused=error)
                return
        except ApexError as error:
            writer.write(wire.encode({"ok": False, "version": __version__, "error": wire.error_data(error)}))
            await writer.drain()
            return
        if self._stopping.is_set() or self._failure is not None:
            # Without a word: this client's own settings are good, so it starts the next daemon with them.
            return
        with self._counted():
            if hello.get("mode") == wire.MODE_CONTROL:
                _reply(writer, client.notices)
                await self._serve_control(reader, writer, client.caller)
            else:
                await self._serve_mcp(reader, writer, client.caller, client.notices)

    def _require_welcome(self, knock: dict[str, Any], hello: dict[str, Any]) -> None:
        if not hmac.compare_digest(str(hello.get("token")).encode(), self._token.encode()):
            raise Rejected(
                "the client does not know the daemon's token",
                code=Code.UNAUTHORIZED,
                next_step="only programs of the data folder's owner may connect",
            )
        if hello.get("mode") == wire.MODE_DRAIN:
            return
        if knock.get("apex-mcp") != wire.PROTOCOL:
            raise Rejected(
                f"the running daemon is apex-mcp {__version__}, this client's is {hello.get('version')}, "
                "and the two do not understand each other",
                code=Code.DAEMON_UNAVAILABLE,
                next_step=f"let the client start apex-mcp {__version__} too (`uvx apex-mcp@{__version__}`), "
                "or run `apex-mcp stop`",
            )

    async def _serve_mcp(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Any, notices: list[str]
    ) -> None:
        # The SDK may still be loading; what the client says meanwhile waits in the socket.
        _reply(writer, notices)
        server, lifespan_state = await asyncio.shield(self._server)
        from apex_mcp.runtime.connections import McpSession
        from apex_mcp.server.gateway import Connection

        session = McpSession(reader, writer)
        self._sessions.add(session)
        try:
            await session.serve(server, lifespan_state, Connection(caller=caller, notices=list(notices)))
        finally:
            self._sessions.discard(session)

    async def _serve_control(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        caller: Caller,
        *,
        refused: ApexError | None = None,
    ) -> None:
        """Serve the command line; who was refused for his settings gets the daemon's own operations only."""
        from apex_mcp.runtime.control import ControlSession

        async def memory() -> Any:
            if refused is not None:
                raise refused
            return await self._keeper.memory()

        await ControlSession(
            reader,
            writer,
            caller=caller,
            memory=memory,
            own={
                "status": self._status,
                "stop": self._op_stop,
                "drain": self._op_drain,
                "ui": self._ui,
                "doctor": self._doctor,
                "workflows": self._workflows,
                "maintain": self._maintain,
                "backup": self._backup,
            },
        ).serve()

    @contextlib.contextmanager
    def _counted(self) -> Generator[None]:
        self._connections += 1
        self._came_and_went.set()
        try:
            yield
        finally:
            self._connections -= 1
            self._came_and_went.set()

    async def _stop_when_idle(self) -> None:
        patience = self._settings.idle_stop_seconds
        while True:
            self._came_and_went.clear()
            if self._connections:
                await self._came_and_went.wait()
                continue
            try:
                await asyncio.wait_for(self._came_and_went.wait(), patience)
            except TimeoutError:
                if not await self._busy():
                    logger.info("idle for %g s", self._settings.idle_stop_seconds)
                    self.stop()
                    return
                logger.debug("no connection, but not idle")
                patience = min(self._settings.idle_stop_seconds, _BUSY_CHECK_SECONDS)
            else:
                patience = self._settings.idle_stop_seconds

    async def _busy(self) -> bool:
        services = self._keeper.now()
        try:
            return services is not None and await services.busy()
        except ApexError:
            # Unknown: what is unfinished would be carried on by the next daemon, but none would start by itself.
            return True

    # --- the daemon's own operations ------------------------------------------------------------

    async def _status(self) -> dict[str, Any]:
        services = self._keeper.now()
        failure = self._keeper.failure
        shown: dict[str, Any] = {"services": [], "notices": [], "unfinished": None}
        if services is not None:
            shown |= await services.status()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "home": str(self._folder.path),
            "uptime_seconds": round(time.monotonic() - self._started, 3),
            "connections": self._connections,
            "clients": len(self._sessions),
            "state": "ready" if services is not None else "failed" if failure else "starting",
            "failure": wire.error_data(failure) if failure else None,
            "longest_pause_ms": round(self._watch.longest_seconds * 1000, 1),
            "rss_bytes": await asyncio.to_thread(_rss, os.getpid()),
            "data_bytes": await asyncio.to_thread(_size, self._folder),
            **shown,
        }

    async def _op_stop(self) -> int:
        """The answer is the process whose end the asker may wait for."""
        asyncio.get_running_loop().call_soon(self.stop)
        return os.getpid()

    async def _op_drain(self) -> bool:
        asyncio.get_running_loop().call_soon(self.stop, wire.FAREWELL_MOVED)
        return True

    async def _doctor(self) -> list[Any]:
        return await (await self._keeper.services()).doctor()

    async def _ui(self) -> str:
        return await (await self._keeper.services()).ui()

    async def _maintain(self, erase: bool = False) -> dict[str, int]:
        return await (await self._keeper.services()).maintain(erase=erase)

    async def _workflows(self, limit: int = 20) -> list[dict[str, Any]]:
        return await (await self._keeper.services()).workflows(limit)

    async def _backup(self, path: Path, force: bool = False) -> AsyncIterator[int]:
        return (await self._keeper.services()).backup(path, force=force)


def _reply(writer: asyncio.StreamWriter, notices: list[str]) -> None:
    writer.write(wire.encode({"ok": True, "version": __version__, "notices": notices}))


async def _read_hello_line(reader: asyncio.StreamReader) -> bytes:
    """A line of somebody who isn't known yet, so it must be short. Nothing follows it before our answer."""
    line = b""
    while not line.endswith(b"\n"):
        part = await reader.read(1 << 16)
        line += part
        if not part or len(line) > _MAX_HELLO_BYTES:
            return b""
    return line


def _build_server(keeper: Keeper[Services]) -> Any:
    # Imported here, off the loop, for the connections to come.
    importlib.import_module("apex_mcp.runtime.connections")
    importlib.import_module("apex_mcp.runtime.control")
    from apex_mcp.server import build_server

    return build_server(keeper).lowlevel


def _opener(services: str, settings: Settings, folder: DataFolder) -> OpenServices:
    module, _, name = services.partition(":")

    @contextlib.asynccontextmanager
    async def open_services() -> AsyncGenerator[Services]:
        # Opening needs drivers that take a second to import; the loop serves clients meanwhile.
        imported = await asyncio.to_thread(importlib.import_module, module)
        open_them: Callable[..., Any] = getattr(imported, name)
        async with open_them(settings, folder) as opened:
            yield opened

    return open_services


def _rss(pid: int) -> int:
    import psutil

    return psutil.Process(pid).memory_info().rss


def _size(folder: DataFolder) -> int:
    total = 0
    for root, _, names in os.walk(folder.path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(root, name), follow_symlinks=False).st_size
    return total
