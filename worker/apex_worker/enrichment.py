"""Enrichment in the worker: the activities that ask the model, and the dispatcher that starts them beside the text's traffic."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

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
from apex_worker.activities import heartbeat, retry_posture

# Runs at a time: they wait for the model most of the time, and share its `APEX_LLM_CONCURRENCY`.
FLIGHTS = 4
_LEASE_SECONDS = 60.0
_LOOK_SECONDS = 5.0
# Ours: tried again, in case it was chance.
_MAX_UNEXPECTED = 3
_PAUSE_SECONDS = 1.0
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
            _log.error(
                "%s failed: %s", activity.info().activity_type, type(error).__name__, exc_info=_traces()
            )
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


def _traces() -> bool:
    """Stack traces hold values, so they are logged only when asked for."""
    return _log.isEnabledFor(logging.DEBUG)


class EnrichmentDispatcher:
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
        self._client = client
        self._task_queue = task_queue
        self._store = store
        self._bell = bell
        self._health = health
        self._enricher = enricher
        self._sole = sole
        self._owner = str(uuid4())
        self._stopping = False
        self._flying: dict[UUID, UUID] = {}

    async def run(self) -> None:
        """Dispatch until cancelled, or until `stop` was called and what was claimed is over."""
        if self._sole:
            await self._patiently(self._reclaim, all_others=True)
        if self._enricher is None:
            return
        async with asyncio.TaskGroup() as tasks:
            leases = tasks.create_task(self._keep_leases())
            await self._serve(self._enricher)
            leases.cancel()

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        Bell.ring(self._bell, [ENRICHMENT])  # in this process only

    async def release_all(self) -> None:
        """After `run` was cancelled: give back at once what it had claimed, so that others go on with it."""
        for claim, version_id in list(self._flying.items()):
            with suppress(RPCError):
                await self._terminate(workflow_id(version_id))
            await self._store.release([version_id], claim=claim)
        self._bell.ring([ENRICHMENT])

    async def _serve(self, enricher: Enricher) -> None:
        rung = self._bell.listener(ENRICHMENT)
        slots = asyncio.Semaphore(FLIGHTS)
        async with asyncio.TaskGroup() as flights:
            while True:
                await slots.acquire()
                rung.clear()
                if self._stopping:
                    return
                claimed = await self._claim()
                if claimed is not None:
                    flights.create_task(self._fly(claimed, enricher.longest_seconds, slots))
                    continue
                slots.release()
                # Not `wait_for`: before Python 3.12 it swallows a cancellation that comes as the bell rings.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await rung.wait()

    async def _claim(self) -> Enrichment | None:
        try:
            claimed = await self._store.claim(owner=self._owner, limit=1, lease_seconds=_LEASE_SECONDS)
        except ApexError as error:
            _log.warning("what the model is to read cannot be asked for: %s", error.code)
            await asyncio.sleep(_PAUSE_SECONDS)
            return None
        return claimed[0] if claimed else None

    async def _fly(self, claimed: Enrichment, seconds: float, slots: asyncio.Semaphore) -> None:
        """One run, from its start to its end; what is not over then waits again."""
        self._flying[claimed.claim] = claimed.version_id
        ran = True
        try:
            await self._execute(claimed, seconds)
        except RPCError as error:
            self._health.note("temporal", "down", f"Temporal does not answer ({error.status.name.lower()})")
            ran = False
            await asyncio.sleep(_PAUSE_SECONDS)
        except WorkflowFailureError:
            _log.warning("enrichment of version %s did not complete", claimed.version_id)
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            slots.release()
        await self._patiently(self._store.release, [claimed.version_id], claim=claimed.claim, lost=ran)
        del self._flying[claimed.claim]
        self._bell.ring()  # a graph on a server has something to be told

    async def _execute(self, claimed: Enrichment, seconds: float) -> None:
        handle = await self._client.start_workflow(
            ENRICHMENT_WORKFLOW,
            EnrichmentInput(version_id=str(claimed.version_id), claim=str(claimed.claim), seconds=seconds),
            id=workflow_id(claimed.version_id),
            task_queue=self._task_queue,
            result_type=EnrichmentResult,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            # A run that is still there belongs to an earlier claim: it can change nothing any more.
            id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
        )
        await handle.result()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            await self._patiently(self._store.renew_leases, self._owner, _LEASE_SECONDS)
            await self._patiently(self._reclaim, all_others=False)

    async def _reclaim(self, *, all_others: bool) -> None:
        """Take back what a dispatcher that is gone had claimed; what was answered is kept, and not asked again."""
        expired = await self._store.expired(not_owner=self._owner, all_others=all_others)
        for lost in expired:
            with suppress(RPCError):
                await self._terminate(workflow_id(lost.version_id))
            await self._store.release([lost.version_id], claim=lost.claim, lost=True)
        if expired:
            self._bell.ring([ENRICHMENT])

    async def _terminate(self, id_: str) -> None:
        try:
            await self._client.get_workflow_handle(id_).terminate("its dispatcher has gone")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

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
                await asyncio.sleep(_PAUSE_SECONDS)


def workflow_id(version_id: UUID) -> str:
    """Id of the workflow that enriches a version."""
    return f"enrich-{version_id}"
