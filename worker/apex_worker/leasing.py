"""What dispatchers of claimed work have in common: leases that are renewed, runs from start to end, and patience."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Generic, TypeVar
from uuid import uuid4

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from apex_mcp.errors import ApexError
from apex_mcp.stores.bell import Bell, Kind
from apex_mcp.stores.health import Health

PAUSE_SECONDS = 1.0
_LOOK_AT_TEMPORAL_SECONDS = 5.0
_TEMPORAL_SECONDS = timedelta(seconds=3)

RunT = TypeVar("RunT")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Line(Generic[RunT]):
    """One kind of work: what rings when some waits, how many runs at a time, and how the next one is claimed."""

    kind: Kind
    flights: int
    claim: Callable[[], Awaitable[RunT | None]]


class LeasingDispatcher(ABC, Generic[RunT]):
    """Claims what waits, starts its workflow, and gives back what did not come to its end.

    Args:
        client: Temporal.
        task_queue: where this memory's worker polls.
        bell: rings when something waits.
        health: where Temporal's state is noted.
        sole: no other process dispatches for this record, so whatever another one has claimed is lost.
    """

    # Renewed three times in it: after this long without a sign of life others take over what a dispatcher had claimed.
    lease_seconds: ClassVar[float]
    # How often it looks for work that nobody rang for.
    look_seconds: ClassVar[float]

    def __init__(self, *, client: Client, task_queue: str, bell: Bell, health: Health, sole: bool) -> None:
        self.client = client
        self.task_queue = task_queue
        self.bell = bell
        self.sole = sole
        self.owner = str(uuid4())
        self._health = health
        self._stopping = False
        self._flying: dict[RunT, WorkflowHandle[Any, Any] | None] = {}

    # --- what each kind of work says for itself ----------------------------------------------------------------------

    @abstractmethod
    def lines(self) -> Sequence[Line[RunT]]:
        """What is served."""

    @abstractmethod
    async def start(self, run: RunT) -> WorkflowHandle[Any, Any]:
        """Start the workflow of a claimed run."""

    @abstractmethod
    async def settle(self, run: RunT, *, ran: bool) -> None:
        """Put back what is not over; without `ran` it was not the work's fault, and does not count."""

    @abstractmethod
    async def renew_leases(self) -> None:
        """Keep what this dispatcher has claimed."""

    @abstractmethod
    async def reclaim(self, *, all_others: bool) -> None:
        """Take back what a dispatcher that is gone had claimed. Its workflows, where they still run, can change nothing."""

    # --- dispatching -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dispatch until cancelled, or until `stop` was called and what was claimed is over."""
        if self.sole:
            await self._patiently(self.reclaim, all_others=True)
        async with asyncio.TaskGroup() as tasks:
            meanwhile = [tasks.create_task(self._keep_leases()), tasks.create_task(self._look_at_temporal())]
            async with asyncio.TaskGroup() as lines:
                for line in self.lines():
                    lines.create_task(self._serve(line))
            for task in meanwhile:
                task.cancel()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        Bell.ring(self.bell)  # in this process only: whoever waits for it here sees that it is over

    async def release_all(self) -> None:
        """After `run` was cancelled: give back at once what it had claimed, so that others go on with it."""
        for run, handle in list(self._flying.items()):
            if handle is not None:
                with suppress(RPCError):
                    await _terminate(handle)
            await self.settle(run, ran=False)
        self.bell.ring()

    async def terminate(self, workflow_id: str) -> None:
        """End a workflow whose dispatcher has gone; one that is over, or that Temporal cannot be asked about, stays as it is."""
        with suppress(RPCError):
            await _terminate(self.client.get_workflow_handle(workflow_id))

    async def _serve(self, line: Line[RunT]) -> None:
        rung = self.bell.listener(line.kind)
        slots = asyncio.Semaphore(line.flights)
        async with asyncio.TaskGroup() as flights:
            while True:
                await slots.acquire()
                rung.clear()
                if self._stopping:
                    return
                run = await self._next(line)
                if run is not None:
                    self._flying[run] = None
                    flights.create_task(self._fly(run, slots))
                    continue
                slots.release()
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes as the bell rings.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.look_seconds):
                        await rung.wait()

    async def _next(self, line: Line[RunT]) -> RunT | None:
        try:
            return await line.claim()
        except ApexError as error:
            _log.warning("what waits cannot be asked for: %s", error.code)
            await asyncio.sleep(PAUSE_SECONDS)
            return None

    async def _fly(self, run: RunT, slots: asyncio.Semaphore) -> None:
        """One run, from its start to its end; what is not over then waits again."""
        ran = True
        try:
            await self._follow(run)
        except RPCError as error:
            note_away(self._health, error)
            ran = False
            await asyncio.sleep(PAUSE_SECONDS)
        finally:
            slots.release()
        await self._patiently(self.settle, run, ran=ran)
        del self._flying[run]
        self.bell.ring()  # what waited for it may go now

    async def _follow(self, run: RunT) -> None:
        handle = self._flying[run] = await self.start(run)
        self._health.note("temporal", "ok")
        try:
            await handle.result()
        except WorkflowFailureError:
            _log.warning("workflow %s did not complete", handle.id)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self.lease_seconds / 3)
            await self._patiently(self.renew_leases)
            await self._patiently(self.reclaim, all_others=False)

    async def _look_at_temporal(self) -> None:
        """Ask it while runs wait in long polls, which a server that hangs does not end, and then until it is well."""
        while True:
            await asyncio.sleep(_LOOK_AT_TEMPORAL_SECONDS)
            if not self._flying and self._health.of("temporal").state == "ok":
                continue
            try:
                await self.client.service_client.check_health(timeout=_TEMPORAL_SECONDS)
            except RPCError as error:
                note_away(self._health, error)
            else:
                self._health.note("temporal", "ok")

    async def _patiently(
        self, work: Callable[..., Awaitable[object]], *args: object, **kwargs: object
    ) -> None:
        """Do something to the record, however long the record is away."""
        while True:
            try:
                await work(*args, **kwargs)
                return
            except ApexError as error:
                _log.warning("the record does not answer: %s", error.code)
                await asyncio.sleep(PAUSE_SECONDS)


def note_away(health: Health, error: RPCError) -> None:
    """Note that Temporal failed, by its status alone."""
    health.note("temporal", "down", f"Temporal does not answer ({error.status.name.lower()})")


async def _terminate(handle: WorkflowHandle[Any, Any]) -> None:
    try:
        await handle.terminate("its dispatcher has gone")
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
