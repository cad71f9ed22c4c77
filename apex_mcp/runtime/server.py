"""`apex-mcp serve`: the server profile's door. It keeps nothing, so any number of them can run; workers do the work."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from typing import Any

import uvicorn
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.service import RPCError, RPCStatusCode

from apex_mcp import __version__
from apex_mcp.app import App, open_server_app
from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, Code, Rejected
from apex_mcp.ingestion.sources.roots import usable_root
from apex_mcp.logs import log_to_stderr
from apex_mcp.runtime.looking import look_at_servers
from apex_mcp.runtime.services import Keeper
from apex_mcp.server.build import ApexServer
from apex_mcp.server.http import PATH, Access, http_app
from apex_mcp.settings import Settings
from apex_mcp.signals import on_stop

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 20
_LOOK_AGAIN_SECONDS = 2.0
# Together shorter than most callers wait for an ingestion: their first answer says what it waits for.
_WATCH_SECONDS = 5.0
_LOOK_SECONDS = 5.0
_LOOKS_WITHOUT_WORKER = 3
# Temporal remembers who polled for minutes; a poll that is there is renewed at least this often.
_POLLED_SECONDS = 90.0


def run_server(settings: Settings) -> None:
    """Serve until asked to stop.

    Raises:
        ApexError: the settings do not allow it, or the stores refuse.
    """
    log_to_stderr(settings.log_level)
    access = door(settings)
    listener = _listen(settings.http_host, settings.http_port)
    # psycopg's async connections need a selector loop on Windows, where it is not the default.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(_serve(settings, access, listener))


def door(settings: Settings) -> Access:
    """Who may come in, by the settings.

    Raises:
        Rejected: a token is needed, or a root is none (`settings_invalid`).
    """
    if refused := [str(root) for root in settings.roots if not usable_root(root)]:
        raise _unfit(
            f"whole drives or system folders in APEX_ROOTS: {', '.join(refused)}", "name folders within them"
        )
    token = settings.http_token.get_secret_value() if settings.http_token else None
    if token is None and not _is_loopback(settings.http_host):
        raise _unfit(
            f"APEX_HTTP_HOST is {settings.http_host}, so others than this machine can connect, and there is no token",
            "set APEX_HTTP_TOKEN to a long random text, which clients send as `Authorization: Bearer ...`",
        )
    hosts = settings.http_allowed_hosts
    if not _is_wildcard(settings.http_host):
        hosts = (*hosts, f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host)
    caller = Caller(roots=settings.roots, namespace=settings.namespace, remote=True)
    return Access(token=token, hosts=hosts, caller=caller)


class _Served:
    """The opened app, as the keeper holds it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._looked_at = 0.0
        self._states: dict[str, str] = {}

    @property
    def memory(self) -> Any:
        return self._app.memory

    async def lost(self) -> None:
        """Return when another process owns the record by now; every part is on a server, and is found again there."""
        assert self._app.ownership is not None, "its database is a server of the user's"
        await self._app.ownership.lost()

    async def knows_its_namespace(self) -> bool:
        """Whether Temporal has been asked, and has the namespace.

        Raises:
            Rejected: it has none of this name (`settings_invalid`).
        """
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._app.temporal.verify(self._app.temporal_client)
        # A server that does not answer is waited for; and whoever may start workflows may not always ask for this.
        except (RPCError, RuntimeError, TimeoutError):
            return False
        return True

    async def states(self) -> dict[str, str]:
        """The state of each part; asked again after a moment only, however often somebody wants to know."""
        if time.monotonic() - self._looked_at > _LOOK_AGAIN_SECONDS:
            self._states = {part["name"]: part["state"] for part in await look_at_servers(self._app)}
            self._looked_at = time.monotonic()
        return self._states


async def _serve(settings: Settings, access: Access, listener: socket.socket) -> None:
    @contextlib.asynccontextmanager
    async def open_services() -> AsyncGenerator[_Served]:
        async with open_server_app(settings, working=False) as app:
            watches = [asyncio.create_task(watch(app)) for watch in (_watch_temporal, _watch_vectors)]
            try:
                yield _Served(app)
            finally:
                for watch in watches:
                    watch.cancel()
                await asyncio.wait(watches)

    keeper = Keeper(open_services)

    async def ready() -> tuple[bool, dict[str, str]]:
        services = keeper.now()
        if services is None:
            return False, {"stores": str(keeper.failure.code) if keeper.failure else "starting"}
        states = await services.states()
        # Without the others some answers are degraded, and say so; without the record there are none.
        return states["postgres"] == "ok", states

    app = http_app(ApexServer(keeper), access, ready=ready, max_inline_chars=settings.max_inline_chars)
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )
    on_stop(asyncio.get_running_loop(), server.stop)
    keeper.start()
    refusal = asyncio.create_task(_stop_if_refused(keeper, server))
    host, port, *_ = listener.getsockname()
    logger.info("version %s listens on %s, port %d, path %s", __version__, host, port, PATH)
    try:
        await server.serve(sockets=[listener])
    finally:
        refusal.cancel()
        await keeper.close()
        logger.info("stopped")
    if server.refused is not None:
        raise server.refused


class _Server(uvicorn.Server):
    """Stops when it is told to; signals are ours to take, since uvicorn would raise them again before we have closed."""

    refused: ApexError | None = None

    def stop(self) -> None:
        logger.info("stopping: no new requests, those under way may finish")
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def _stop_if_refused(keeper: Keeper[_Served], server: _Server) -> None:
    """What does not get better by waiting (a newer database, a wrong setting, no such namespace) ends the server at once."""
    namespace_is_known = False
    while True:
        try:
            services = await keeper.services()
            namespace_is_known = namespace_is_known or await services.knows_its_namespace()
        except ApexError as error:
            if not error.retryable:
                server.refused = error
                server.stop()
                return
            logger.info("the stores are not open: %s", error.code)
        await asyncio.sleep(_WATCH_SECONDS)


async def _watch_temporal(app: App) -> None:
    """Note for those who wait for an ingestion whether Temporal answers and a worker polls."""
    request = DescribeTaskQueueRequest(
        namespace=app.temporal.namespace,
        task_queue=TaskQueue(name=app.task_queue),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    )
    without_worker = 0
    while True:
        try:
            answer = await app.temporal_client.workflow_service.describe_task_queue(
                request, timeout=timedelta(seconds=_LOOK_SECONDS)
            )
        except (RPCError, RuntimeError) as error:
            missing = isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND
            what = (
                "Temporal has no such namespace: APEX_TEMPORAL_NAMESPACE"
                if missing
                else "Temporal does not answer"
            )
            app.health.note("temporal", "down", what)
        else:
            latest = max((poller.last_access_time.ToSeconds() for poller in answer.pollers), default=0)
            without_worker = 0 if time.time() - latest < _POLLED_SECONDS else without_worker + 1
            if without_worker == 0:
                app.health.note("temporal", "ok")
            # A server that was started again knows of no poll before the workers have come back.
            elif without_worker >= _LOOKS_WITHOUT_WORKER:
                app.health.note("temporal", "degraded", "no worker is polling: start `apex-worker`")
        await asyncio.sleep(_WATCH_SECONDS)


async def _watch_vectors(app: App) -> None:
    """Ask for the vector index now and then, so that those who wait for an ingestion hear what it waits for."""
    while app.verify_qdrant is not None:
        # The breaker notes what comes of it.
        with contextlib.suppress(ApexError):
            await app.verify_qdrant()
        await asyncio.sleep(_WATCH_SECONDS)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise _unfit(
            f"the server cannot listen on {host}, port {port}",
            "choose another APEX_HTTP_HOST or APEX_HTTP_PORT, or end what listens there",
        ) from error


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_wildcard(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_unspecified


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _unfit(what: str, next_step: str) -> Rejected:
    return Rejected(
        what, code=Code.SETTINGS_INVALID, unchanged="the server was not started", next_step=next_step
    )
