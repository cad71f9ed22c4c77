"""What stands behind the daemon's doors: opened in the background, waited for by calls, and again if lost."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from apex_mcp.errors import ApexError, Code, Unavailable

logger = logging.getLogger(__name__)

# Clients give a call 30 s or more; the answer "still starting" must come before they give up.
WAIT_SECONDS = 25.0
_TRY_AGAIN_SECONDS = 5.0
_BY_ITSELF_SECONDS = 15.0


class Opened(Protocol):
    """The stores, open."""

    @property
    def memory(self) -> Any:
        """The `Memory`."""
        ...

    async def lost(self) -> None:
        """Return when all must be opened again: a part came back at another address."""
        ...


class Services(Opened, Protocol):
    """The stores, Temporal and the worker of one data folder, running."""

    async def busy(self) -> bool:
        """Whether an ingestion is unfinished, so that the daemon must not stop for idleness."""
        ...

    async def status(self) -> dict[str, Any]:
        """What `status` shows: `services` (name, state, pid) and what else is worth knowing."""
        ...

    async def ui(self) -> str:
        """Start Temporal's web UI; its address."""
        ...

    async def doctor(self) -> list[Any]:
        """A `Check` of each part."""
        ...

    async def maintain(self, *, erase: bool) -> dict[str, int]:
        """Run maintenance; what it did."""
        ...

    async def workflows(self, limit: int) -> list[dict[str, Any]]:
        """The most recent workflow runs."""
        ...

    def backup(self, path: Path, *, force: bool) -> AsyncIterator[int]:
        """Write a backup of the data folder; yields the bytes that were taken."""
        ...


OpenServices = Callable[[], AbstractAsyncContextManager[Services]]
OpenedT = TypeVar("OpenedT", bound=Opened)


class Keeper(Generic[OpenedT]):
    """Keeps services open until `close`. It is the MCP server's gateway too.

    Args:
        open_services: opens all of them; called again after a failure, at the next call that needs them, and now and then
            where what failed may come back by itself.
    """

    def __init__(self, open_services: Callable[[], AbstractAsyncContextManager[OpenedT]]) -> None:
        self._open_services = open_services
        self._closing = asyncio.Event()
        self._settled = asyncio.Event()
        self._services: OpenedT | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed_at = 0.0
        self._again: asyncio.TimerHandle | None = None
        self.failure: ApexError | None = None

    def start(self) -> None:
        """Open the services in the background."""
        if self._again is not None:
            self._again.cancel()
        self.failure = None
        self._settled.clear()
        self._task = asyncio.create_task(self._keep())

    async def memory(self) -> Any:
        """The `Memory`, once it is there.

        Raises:
            ApexError: it is still starting (`starting`), or could not be started.
        """
        return (await self.services()).memory

    async def services(self) -> OpenedT:
        """The services, once they are up.

        Raises:
            ApexError: they are still starting (`starting`), or could not be started.
        """
        if self.failure is not None and time.monotonic() - self._failed_at > _TRY_AGAIN_SECONDS:
            self.start()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._settled.wait()
        except TimeoutError:
            raise Unavailable(
                "the stores are still starting",
                code=Code.STARTING,
                next_step="send the same call again in a few seconds; `apex-mcp status` shows how far it is",
                retry_after_seconds=5,
            ) from None
        if self._services is not None:
            return self._services
        raise self.failure or Unavailable(
            "the daemon is stopping", code=Code.DAEMON_RESTARTED, retry_after_seconds=2
        )

    def now(self) -> OpenedT | None:
        """The services if they are up at this moment."""
        return self._services

    async def close(self) -> None:
        """Close the services; whatever waits for them is told."""
        self._closing.set()
        if self._again is not None:
            self._again.cancel()
        if self._task is not None:
            if self._services is None:
                # Still opening: what has been opened so far is closed by the cancellation.
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._settled.set()

    async def _keep(self) -> None:
        try:
            while not self._closing.is_set():
                await self._hold()
        except ApexError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  (the daemon goes on and answers with the reason)
            self._fail(
                Unavailable(
                    f"the stores could not be opened ({type(error).__name__}: {_where(error)})",
                    code=Code.DAEMON_UNAVAILABLE,
                    next_step="send the same call again: it opens them anew; if it stays, `apex-mcp logs` "
                    "and `apex-mcp doctor` say more",
                    retry_after_seconds=_TRY_AGAIN_SECONDS,
                )
            )

    async def _hold(self) -> None:
        async with self._open_services() as services:
            self._services = services
            self._settled.set()
            logger.info("services up")
            waits = {asyncio.create_task(self._closing.wait()), asyncio.create_task(services.lost())}
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                self._services = None
                if not self._closing.is_set():
                    self._settled.clear()

    def _fail(self, error: ApexError) -> None:
        logger.error("services failed: %s", error)
        self.failure = error
        self._failed_at = time.monotonic()
        self._settled.set()
        if error.retryable:
            self._again = asyncio.get_running_loop().call_later(_BY_ITSELF_SECONDS, self.start)


def _where(error: BaseException) -> str:
    """The innermost place of an error, as module and line: enough to find it, and never any content."""
    trace = error.__traceback__
    if trace is None:
        return "?"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
