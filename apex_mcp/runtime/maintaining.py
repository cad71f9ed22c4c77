"""Maintenance, run when a user asks for it."""

from dataclasses import asdict

from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError

from apex_mcp.errors import ApexError, Code, Invariant, Unavailable
from apex_mcp.ingestion.contract import (
    MAINTENANCE_WORKFLOW,
    MaintenanceInput,
    MaintenanceResult,
    maintenance_workflow_id,
)


async def maintain(client: Client, task_queue: str, *, erase: bool) -> dict[str, int]:
    """Run it, or wait for the run that is under way; what it did.

    Raises:
        Unavailable: Temporal or a store does not answer.
        Invariant: it failed for a reason that no retry cures.
    """
    given = MaintenanceInput(erase=erase)
    try:
        handle = await client.start_workflow(
            MAINTENANCE_WORKFLOW,
            given,
            id=maintenance_workflow_id(task_queue, given),
            task_queue=task_queue,
            result_type=MaintenanceResult,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
        return asdict(await handle.result())
    except RPCError as error:
        raise Unavailable(
            "Temporal does not answer",
            code=Code.TEMPORAL_UNAVAILABLE,
            unchanged="maintenance goes on by itself if it began",
            next_step="try again in a few seconds; `apex-mcp doctor` shows what is wrong",
            retry_after_seconds=5,
        ) from error
    except WorkflowFailureError as error:
        raise _failure(error) from error


def _failure(error: WorkflowFailureError) -> ApexError:
    """Of a failure Temporal keeps the code alone."""
    cause = error.cause.cause if isinstance(error.cause, ActivityError) else error.cause
    said = cause.type if isinstance(cause, ApplicationError) else None
    code = Code(said) if said in set(Code) else Code.INVARIANT
    kept = "what it did stays done"
    if code is Code.INVARIANT:
        return Invariant("maintenance failed", unchanged=kept, next_step="`apex-mcp logs` says where")
    return Unavailable(
        f"maintenance did not come to its end ({code})",
        code=code,
        unchanged=kept,
        next_step="it is tried again within the hour; `apex-mcp doctor` shows what is wrong",
    )
