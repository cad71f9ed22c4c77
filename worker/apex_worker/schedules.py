"""The schedules that Temporal keeps."""

from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleSpec,
)

from apex_mcp.ingestion.contract import MAINTENANCE_SCHEDULE, MAINTENANCE_WORKFLOW, TASK_QUEUE

_EVERY = timedelta(hours=1)


async def ensure_schedules(client: Client, task_queue: str) -> None:
    """Create what is missing; an existing schedule is left as it is. Each queue, which is each memory, has its own."""
    memory = task_queue.removeprefix(TASK_QUEUE)
    action = ScheduleActionStartWorkflow(
        MAINTENANCE_WORKFLOW, id=f"maintenance{memory}", task_queue=task_queue
    )
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=_EVERY)])
    try:
        await client.create_schedule(f"{MAINTENANCE_SCHEDULE}{memory}", Schedule(action=action, spec=spec))
    except ScheduleAlreadyRunningError:
        return
