"""The graph on a server, in the worker: the activity that tells it what changed, and the dispatcher that starts the run."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from apex_mcp import faults
from apex_mcp.errors import ApexError
from apex_mcp.ingestion.contract import GRAPH_WORKFLOW
from apex_mcp.models import Lane
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.health import Health
from apex_worker.activities import heartbeat, log_unexpected, retry_posture
from apex_worker.leasing import PAUSE_SECONDS, note_away

# Loads Neo4j's driver, so only where a server is set.
if TYPE_CHECKING:
    from apex_mcp.ingestion.projecting import Projector

# Some seconds of work, so that a run that is stopped has little left to do.
_PAGES = 20
_LOOK_SECONDS = 5.0
_AFTER_FAILURE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class GraphActivities:
    """The one step.

    Args:
        projector: does it.
        health: where the graph's state is noted.
    """

    def __init__(self, projector: "Projector", health: Health) -> None:
        self._projector = projector
        self._health = health

    @activity.defn(name="project_graph")
    async def project_graph(self) -> bool:
        """Write some pages; whether more waits."""
        beat = asyncio.create_task(heartbeat())
        try:
            with faults.around(f"step.{activity.info().activity_type}"):
                more = await self._projector.run(pages=_PAGES)
        except Exception as error:  # noqa: BLE001  (the border to Temporal: everything gets a posture)
            if isinstance(error, ApexError):
                self._health.note("graph", "down", error.message)
            else:
                log_unexpected(_log, error)
                self._health.note("graph", "degraded", f"it cannot be written ({type(error).__name__})")
            raise retry_posture(error, activity.info().attempt) from None
        finally:
            beat.cancel()
        self._health.note("graph", "ok")
        return more

    def all(self) -> list[Callable[..., Any]]:
        """Every activity, for registering."""
        return [self.project_graph]


class GraphDispatcher:
    """Starts the run whenever something waits; of several processes that do, one finds it started.

    Args:
        client: Temporal.
        task_queue: where the worker polls.
        workflow_id: of the one run.
        projector: knows whether something waits; None where no graph server is set.
        bell: rings when other work is over, which may have changed something.
        health: where Temporal's state is noted.
    """

    def __init__(
        self,
        *,
        client: Client,
        task_queue: str,
        workflow_id: str,
        projector: "Projector | None",
        bell: Bell,
        health: Health,
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._workflow_id = workflow_id
        self._projector = projector
        self._health = health
        self._rung = bell.listener((Lane.FAST, False))
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Dispatch until cancelled or stopped."""
        if self._projector is None:
            return
        async with asyncio.TaskGroup() as tasks:
            dispatching = tasks.create_task(self._dispatch(self._projector))
            await self._stopping.wait()
            dispatching.cancel()

    async def _dispatch(self, projector: "Projector") -> None:
        while True:
            self._rung.clear()
            try:
                if await projector.has_work():
                    await self._execute()
                    continue
                pause = _LOOK_SECONDS
            except RPCError as error:
                note_away(self._health, error)
                pause = PAUSE_SECONDS
            except WorkflowFailureError:
                _log.warning(
                    "the graph was not brought up to date; tried again in %g s", _AFTER_FAILURE_SECONDS
                )
                await asyncio.sleep(_AFTER_FAILURE_SECONDS)
                continue
            except ApexError as error:
                _log.warning("the graph's queue cannot be read: %s", error.code)
                pause = PAUSE_SECONDS
            # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes as the bell rings.
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._rung.wait()

    def stop(self) -> None:
        """Start nothing more, and wait for nothing: while the server is away its run is under way in Temporal."""
        self._stopping.set()

    async def release_all(self) -> None:
        """Nothing is claimed: the next worker goes on with the run."""

    async def _execute(self) -> None:
        handle = await self._client.start_workflow(
            GRAPH_WORKFLOW,
            id=self._workflow_id,
            task_queue=self._task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        await handle.result()
