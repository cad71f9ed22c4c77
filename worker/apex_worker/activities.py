"""The activities: each calls one step of `apex_mcp.ingestion`, and turns our errors into a retry posture."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar

from temporalio import activity
from temporalio.exceptions import ApplicationError

from apex_mcp import faults
from apex_mcp.errors import ApexError, Code
from apex_mcp.ingestion.contract import (
    MaintenanceInput,
    MaintenanceResult,
    RollbackInput,
    StepInput,
    StepResult,
)
from apex_mcp.ingestion.maintenance import Maintenance
from apex_mcp.ingestion.steps import Steps

_MAX_UNEXPECTED = 3
_HEARTBEAT_SECONDS = 20.0
InputT = ParamSpec("InputT")
ResultT = TypeVar("ResultT")
_log = logging.getLogger(__name__)


def retry_posture(error: Exception, attempt: int) -> ApplicationError:
    """What Temporal is told of an error: its code, whether to retry and when. No message, no stack.

    Raised `from None`: else Temporal is told of the error itself as well, as its context.
    """
    if isinstance(error, ApexError):
        delay = timedelta(seconds=error.retry_after_seconds) if error.retry_after_seconds else None
        return ApplicationError(
            str(error.code), type=str(error.code), non_retryable=not error.retryable, next_retry_delay=delay
        )
    # Ours: tried again, in case it was chance, then given up.
    return ApplicationError(
        str(Code.INVARIANT),
        type(error).__name__,
        type=str(Code.INVARIANT),
        non_retryable=attempt >= _MAX_UNEXPECTED,
    )


def log_unexpected(log: logging.Logger, error: Exception) -> None:
    """Log that an activity failed for a reason that is ours. Stack traces hold values, so they come only when asked for."""
    traces = log.isEnabledFor(logging.DEBUG)
    log.error("%s failed: %s", activity.info().activity_type, type(error).__name__, exc_info=traces)


def _guarded(
    function: Callable[Concatenate["Activities", InputT], Awaitable[ResultT]],
) -> Callable[Concatenate["Activities", InputT], Coroutine[Any, Any, ResultT]]:
    @functools.wraps(function)
    async def guarded(self: "Activities", *given: InputT.args, **named: InputT.kwargs) -> ResultT:
        beat = asyncio.create_task(heartbeat()) if not activity.info().is_local else None
        try:
            with faults.around(f"step.{activity.info().activity_type}"):
                return await function(self, *given, **named)
        except Exception as error:  # noqa: BLE001  (the border to Temporal: everything gets a posture)
            if not isinstance(error, ApexError):
                log_unexpected(_log, error)
            elif error.retryable and given and isinstance(step := given[0], StepInput):
                with suppress(ApexError):
                    await self.steps.note_waiting(step, error)
            raise retry_posture(error, activity.info().attempt) from None
        finally:
            if beat is not None:
                beat.cancel()

    return guarded


async def heartbeat() -> None:
    """Give signs of life until cancelled."""
    while True:
        activity.heartbeat()
        await asyncio.sleep(_HEARTBEAT_SECONDS)


class Activities:
    """The activities of one worker.

    Args:
        steps: the six steps.
        maintenance: what the schedule runs, and users.
    """

    def __init__(self, steps: Steps, maintenance: Maintenance) -> None:
        self.steps = steps
        self.maintenance = maintenance

    @activity.defn(name="stage_document")
    @_guarded
    async def stage_document(self, step: StepInput) -> StepResult:
        return await self.steps.stage(step)

    @activity.defn(name="parse_document")
    @_guarded
    async def parse_document(self, step: StepInput) -> StepResult:
        return await self.steps.parse(step)

    @activity.defn(name="extract_entities")
    @_guarded
    async def extract_entities(self, step: StepInput) -> StepResult:
        return await self.steps.extract(step)

    @activity.defn(name="prepare_group")
    @_guarded
    async def prepare_group(self, step: StepInput) -> StepResult:
        return await self.steps.prepare_group(step)

    @activity.defn(name="generate_embeddings")
    @_guarded
    async def generate_embeddings(self, step: StepInput) -> StepResult:
        return await self.steps.embed(step)

    @activity.defn(name="write_to_databases")
    @_guarded
    async def write_to_databases(self, step: StepInput) -> StepResult:
        return await self.steps.write(step)

    @activity.defn(name="cleanup_staging")
    @_guarded
    async def cleanup_staging(self, step: StepInput) -> StepResult:
        return await self.steps.cleanup(step)

    @activity.defn(name="rollback_writes")
    @_guarded
    async def rollback_writes(self, rollback: RollbackInput) -> None:
        await self.steps.rollback(rollback)

    @activity.defn(name="send_alone")
    @_guarded
    async def send_alone(self, step: StepInput) -> None:
        await self.steps.send_alone(step)

    @activity.defn(name="greet")
    async def greet(self, name: str) -> str:
        return f"Hello, {name}: the worker answers."

    @activity.defn(name="maintain")
    @_guarded
    async def maintain(self) -> int:
        """Of runs that began before there was `maintain_stores`."""
        return await self.maintenance.clean_staging()

    @activity.defn(name="maintain_stores")
    @_guarded
    async def maintain_stores(self, given: MaintenanceInput) -> MaintenanceResult:
        return await self.maintenance.run(erase=given.erase)

    def all(self) -> list[Callable[..., Any]]:
        """Every activity, for registering."""
        return [
            self.stage_document,
            self.parse_document,
            self.extract_entities,
            self.prepare_group,
            self.generate_embeddings,
            self.write_to_databases,
            self.cleanup_staging,
            self.rollback_writes,
            self.send_alone,
            self.greet,
            self.maintain,
            self.maintain_stores,
        ]
