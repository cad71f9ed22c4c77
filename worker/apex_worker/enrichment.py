"""Enrichment in the worker: the activities that ask the model, and the dispatcher that starts them beside the text's traffic."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError

from apex_mcp import faults
from apex_mcp.errors import ApexError, Code, Invariant
from apex_mcp.ingestion.contract import (
    ENRICHMENT_ATTEMPTS,
    ENRICHMENT_WORKFLOW,
    EnrichmentInput,
    EnrichmentResult,
)
from apex_mcp.ingestion.enriching.enricher import Enricher
from apex_mcp.models import EnrichmentState
from apex_mcp.stores.bell import ENRICHMENT, Bell
from apex_mcp.stores.health import Health
from apex_mcp.stores.record.enrichments import Enrichment, EnrichmentStore
from apex_worker.activities import heartbeat, log_unexpected, retry_posture
from apex_worker.leasing import LeasingDispatcher, Line

# Runs at a time: they wait for the model most of the time, and share its `APEX_LLM_CONCURRENCY`.
FLIGHTS = 4
# Ours: tried again, in case it was chance.
_MAX_UNEXPECTED = 3
# What a provider asks to wait longer than this waits in the record, and gives its place to another.
_LONGEST_DELAY_SECONDS = 60.0

_log = logging.getLogger(__name__)


class EnrichmentActivities:
    """The two steps. What no retry can cure ends the enrichment in the record; it never ends the version.

    Args:
        enricher: does them.
        health: where the model's state is noted.
    """

    def __init__(self, enricher: Enricher, health: Health) -> None:
        self._enricher = enricher
        self._health = health

    @activity.defn(name="extract_by_model")
    async def extract_by_model(self, given: EnrichmentInput) -> EnrichmentResult:
        return await self._run(self._enricher.extract, given)

    @activity.defn(name="publish_enrichment")
    async def publish_enrichment(self, given: EnrichmentInput) -> EnrichmentResult:
        return await self._run(self._enricher.publish, given)

    def all(self) -> list[Callable[..., Any]]:
        """Every activity, for registering."""
        return [self.extract_by_model, self.publish_enrichment]

    async def _run(
        self, step: Callable[[UUID, UUID], Awaitable[EnrichmentState]], given: EnrichmentInput
    ) -> EnrichmentResult:
        version_id, claim = UUID(given.version_id), UUID(given.claim)
        beat = asyncio.create_task(heartbeat())
        try:
            try:
                with faults.around(f"step.{activity.info().activity_type}"):
                    state = await step(version_id, claim)
                self._health.note("model", "ok")
            except Exception as error:  # noqa: BLE001  (the border to Temporal: everything gets a posture)
                state = await self._met(error, version_id, claim)
        except ApplicationError:
            raise
        except Exception as error:  # noqa: BLE001  (the record itself, which is told of the failure)
            raise retry_posture(error, activity.info().attempt) from None
        finally:
            beat.cancel()
        return EnrichmentResult(state=state)

    async def _met(self, error: Exception, version_id: UUID, claim: UUID) -> EnrichmentState:
        """What follows a failure: it is tried again, or put back to wait, or ended."""
        attempt = activity.info().attempt
        last = attempt >= ENRICHMENT_ATTEMPTS
        if not isinstance(error, ApexError):
            log_unexpected(_log, error)
            if attempt < _MAX_UNEXPECTED:
                raise retry_posture(error, attempt) from None
            error = Invariant(
                f"the enrichment failed for an unexpected reason ({type(error).__name__})",
                unchanged="the text stays searchable",
                next_step="call retry_ingestion; if it stays, report it with what `apex-mcp logs` shows",
            )
        elif error.code in (Code.MODEL_UNAVAILABLE, Code.PROVIDER_REJECTED):
            self._health.note("model", "down", error.message)
        if error.retryable:
            if not last and (error.retry_after_seconds or 0) <= _LONGEST_DELAY_SECONDS:
                await self._enricher.note_waiting(version_id, claim, error)
                raise retry_posture(error, attempt) from None
            await self._enricher.postpone(version_id, claim, error)
            return EnrichmentState.PENDING
        await self._enricher.fail(version_id, claim, error)
        return EnrichmentState.FAILED


class EnrichmentDispatcher(LeasingDispatcher[Enrichment]):
    """One process's dispatcher of what a model is still to read. Text never waits for it: it has its own flights.

    Args:
        client: Temporal.
        task_queue: where the worker polls.
        store: what is owed.
        bell: rings when something may wait.
        health: where Temporal's state is noted.
        enricher: None where no model is configured: then what is owed waits.
        sole: no other process dispatches for this record, so whatever another one has claimed is lost.
    """

    lease_seconds = 60.0
    look_seconds = 5.0

    def __init__(
        self,
        *,
        client: Client,
        task_queue: str,
        store: EnrichmentStore,
        bell: Bell,
        health: Health,
        enricher: Enricher | None,
        sole: bool,
    ) -> None:
        super().__init__(client=client, task_queue=task_queue, bell=bell, health=health, sole=sole)
        self._store = store
        self._seconds = enricher.longest_seconds if enricher is not None else 0.0

    def lines(self) -> list[Line[Enrichment]]:
        return [Line(ENRICHMENT, FLIGHTS, self._claim)] if self._seconds else []

    async def _claim(self) -> Enrichment | None:
        claimed = await self._store.claim(owner=self.owner, limit=1, lease_seconds=self.lease_seconds)
        return claimed[0] if claimed else None

    async def start(self, run: Enrichment) -> WorkflowHandle[Any, Any]:
        return await self.client.start_workflow(
            ENRICHMENT_WORKFLOW,
            EnrichmentInput(version_id=str(run.version_id), claim=str(run.claim), seconds=self._seconds),
            id=workflow_id(run.version_id),
            task_queue=self.task_queue,
            result_type=EnrichmentResult,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            # A run that is still there belongs to an earlier claim: it can change nothing any more.
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        )

    async def settle(self, run: Enrichment, *, ran: bool) -> None:
        await self._store.release([run.version_id], claim=run.claim, lost=ran)

    async def renew_leases(self) -> None:
        await self._store.renew_leases(self.owner, self.lease_seconds)

    async def reclaim(self, *, all_others: bool) -> None:
        expired = await self._store.expired(not_owner=self.owner, all_others=all_others)
        for lost in expired:
            # Else the run of that id may by now be that of whoever was quicker to take it back.
            if self.sole:
                await self.terminate(workflow_id(lost.version_id))
            await self._store.release([lost.version_id], claim=lost.claim, lost=True)
        if expired:
            self.bell.ring([ENRICHMENT])


def workflow_id(version_id: UUID) -> str:
    """Id of the workflow that enriches a version."""
    return f"enrich-{version_id}"
