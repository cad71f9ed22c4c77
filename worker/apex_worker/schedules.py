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


async def ensure_schedules(client: Client) -> None:
    """Create what is missing; an existing schedule is left as it is."""
    action = ScheduleActionStartWorkflow(MAINTENANCE_WORKFLOW, id="maintenance", task_queue=TASK_QUEUE)
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=_EVERY)])
    try:
        await client.create_schedule(MAINTENANCE_SCHEDULE, Schedule(action=action, spec=spec))
    except ScheduleAlreadyRunningError:
        return
