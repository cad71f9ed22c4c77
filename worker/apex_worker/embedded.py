"""The worker inside the daemon: polls Temporal and empties the outbox in the process that owns the stores."""

import asyncio
from datetime import timedelta

from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from apex_mcp.app import App
from apex_mcp.ingestion.contract import TASK_QUEUE
from apex_worker.activities import Activities
from apex_worker.dispatcher import Dispatcher
from apex_worker.schedules import ensure_schedules
from apex_worker.workflows import (
    DocumentGroupWorkflow,
    DocumentIngestionWorkflow,
    GreetingWorkflow,
    MaintenanceWorkflow,
)

WORKFLOWS: list[type] = [
    DocumentIngestionWorkflow,
    DocumentGroupWorkflow,
    GreetingWorkflow,
    MaintenanceWorkflow,
]


def make_worker(app: App) -> Worker:
    """A worker for all workflows and activities."""
    activities = Activities(app.steps, app.record, app.maintenance)
    return Worker(
        app.temporal_client,
        task_queue=TASK_QUEUE,
        workflows=WORKFLOWS,
        activities=activities.all(),
        # The sandbox takes a fifth of the daemon's time under load. The tests run and replay the same workflows in it.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=8,
        max_concurrent_local_activities=16,
        max_concurrent_workflow_tasks=8,
        graceful_shutdown_timeout=timedelta(seconds=2),
    )


async def run_worker(app: App) -> None:
    """Work until cancelled."""
    dispatcher = Dispatcher(
        client=app.temporal_client,
        ingestions=app.record.ingestions,
        index=app.index,
        bell=app.bell,
        health=app.health,
        sole=True,
    )
    async with make_worker(app), asyncio.TaskGroup() as tasks:
        tasks.create_task(dispatcher.run())
        tasks.create_task(ensure_schedules(app.temporal_client))
