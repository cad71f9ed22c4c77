"""A worker: polls Temporal and empties the outbox. In the daemon, or in a process of its own."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from apex_mcp.app import App
from apex_mcp.errors import ApexError, Unavailable
from apex_mcp.ingestion.contract import graph_queue, graph_workflow_id, model_queue
from apex_worker.activities import Activities
from apex_worker.dispatcher import CONCURRENCY, Dispatcher
from apex_worker.enrichment import FLIGHTS, EnrichmentActivities, EnrichmentDispatcher
from apex_worker.graph import GraphActivities, GraphDispatcher
from apex_worker.schedules import ensure_schedules
from apex_worker.workflows import (
    DocumentGroupWorkflow,
    DocumentIngestionWorkflow,
    EnrichmentWorkflow,
    GraphProjectionWorkflow,
    GreetingWorkflow,
    MaintenanceWorkflow,
)

WORKFLOWS: list[type] = [
    DocumentIngestionWorkflow,
    DocumentGroupWorkflow,
    EnrichmentWorkflow,
    GraphProjectionWorkflow,
    GreetingWorkflow,
    MaintenanceWorkflow,
]

# How long what is claimed may go on once the worker is asked to stop; orchestrators give it some 30 s.
_GRACE_SECONDS = 10.0
_STEP_GRACE = timedelta(seconds=2)
_RETRY_SECONDS = 2.0

_log = logging.getLogger(__name__)


def make_worker(app: App, client: Client | None = None, *, concurrency: int = CONCURRENCY) -> Worker:
    """The worker of all that every process can do."""
    activities = Activities(app.steps, app.maintenance).all()
    return _worker(
        client or app.temporal_client, app.task_queue, WORKFLOWS, activities, concurrency=2 * concurrency
    )


def make_special_workers(app: App, client: Client) -> list[Worker]:
    """Workers with queues of their own, of what only a process with a model, or with a graph's server, can do."""
    workers: list[Worker] = []
    if app.enricher is not None:
        activities = EnrichmentActivities(app.enricher, app.health).all()
        queue = model_queue(app.task_queue)
        workers.append(_worker(client, queue, [EnrichmentWorkflow], activities, concurrency=FLIGHTS))
    if app.projector is not None:
        activities = GraphActivities(app.projector, app.health).all()
        queue = graph_queue(app.task_queue)
        workers.append(_worker(client, queue, [GraphProjectionWorkflow], activities, concurrency=1))
    return workers


def _worker(
    client: Client,
    queue: str,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    *,
    concurrency: int,
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        activities=activities,
        # The sandbox takes a fifth of the daemon's time under load. The tests run and replay the same workflows in it.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=concurrency,
        max_concurrent_local_activities=2 * concurrency,
        max_concurrent_workflow_tasks=max(2, concurrency),
        graceful_shutdown_timeout=_STEP_GRACE,
    )


def make_dispatcher(app: App, client: Client, *, concurrency: int = CONCURRENCY) -> Dispatcher:
    """The dispatcher that goes with a worker: its client is the worker's, so that a run begins in this process."""
    return Dispatcher(
        client=client,
        task_queue=app.task_queue,
        ingestions=app.record.ingestions,
        outbox=app.record.outbox,
        index=app.index,
        bell=app.bell,
        health=app.health,
        sole=app.sole,
        concurrency=concurrency,
    )


def make_enrichment_dispatcher(app: App, client: Client) -> EnrichmentDispatcher:
    """The dispatcher of what a model is to read; it does nothing where none is asked."""
    return EnrichmentDispatcher(
        client=client,
        task_queue=model_queue(app.task_queue),
        store=app.record.enrichments,
        bell=app.bell,
        health=app.health,
        enricher=app.enricher,
        sole=app.sole,
    )


def make_graph_dispatcher(app: App, client: Client) -> GraphDispatcher:
    """The dispatcher of what the graph on a server is to be told; it does nothing where there is none."""
    return GraphDispatcher(
        client=client,
        task_queue=graph_queue(app.task_queue),
        workflow_id=graph_workflow_id(app.record_id.hex),
        projector=app.projector,
        bell=app.bell,
        health=app.health,
    )


async def run_worker(
    app: App, *, stopping: asyncio.Event | None = None, concurrency: int = CONCURRENCY
) -> None:
    """Work until cancelled, or until `stopping` is set and what was claimed is over or given back."""
    client = await _connected(app, stopping)
    if client is None:
        return
    dispatchers = [
        make_dispatcher(app, client, concurrency=concurrency),
        make_enrichment_dispatcher(app, client),
        make_graph_dispatcher(app, client),
    ]
    try:
        async with AsyncExitStack() as workers, asyncio.TaskGroup() as tasks:
            for worker in (
                make_worker(app, client, concurrency=concurrency),
                *make_special_workers(app, client),
            ):
                await workers.enter_async_context(worker)
            tasks.create_task(_keep_schedules(client, app.task_queue))
            dispatching = [tasks.create_task(dispatcher.run()) for dispatcher in dispatchers]
            if stopping is not None:
                await stopping.wait()
                for dispatcher in dispatchers:
                    dispatcher.stop()
                await asyncio.wait(dispatching, timeout=_GRACE_SECONDS)
                for task in dispatching:
                    task.cancel()
    finally:
        if stopping is not None and stopping.is_set():
            for dispatcher in dispatchers:
                with suppress(ApexError):
                    await dispatcher.release_all()


async def _connected(app: App, stopping: asyncio.Event | None) -> Client | None:
    """Wait for Temporal: what is accepted meanwhile waits, and says for what. None when it is time to stop.

    Raises:
        Rejected: it has no such namespace.
    """
    while stopping is None or not stopping.is_set():
        try:
            client = await app.worker_client()
        except Unavailable as error:
            _log.warning("no work yet: %s", error.code)
            app.health.note("temporal", "down", "Temporal does not answer")
            await asyncio.sleep(_RETRY_SECONDS)
        except ApexError as error:
            app.health.note("temporal", "down", error.message)
            raise
        else:
            app.health.note("temporal", "ok")
            return client
    return None


async def _keep_schedules(client: Client, task_queue: str) -> None:
    while True:
        try:
            await ensure_schedules(client, task_queue)
            return
        except RPCError as error:
            _log.warning("the schedules cannot be looked after: %s", error.status.name.lower())
            await asyncio.sleep(_RETRY_SECONDS)
