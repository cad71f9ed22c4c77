"""The workflows: the order of steps, and what follows a failure. Ids and codes only; nothing here touches a store."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from apex_mcp.ingestion.contract import (
        DOCUMENT_WORKFLOW,
        ENRICHMENT_ATTEMPTS,
        ENRICHMENT_WORKFLOW,
        GRAPH_WORKFLOW,
        GREETING_WORKFLOW,
        GROUP_WORKFLOW,
        MAINTENANCE_WORKFLOW,
        EnrichmentInput,
        EnrichmentResult,
        IngestionInput,
        IngestionResult,
        MaintenanceInput,
        MaintenanceResult,
        RollbackInput,
        StepInput,
        StepResult,
    )
    from apex_mcp.models import EnrichmentState

# A store that is down makes a step wait, for as long as it takes; errors that no retry can cure end it at once.
_PATIENT = RetryPolicy(initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=30))
# Longer than a parser may take (`APEX_PARSE_TIMEOUT_SECONDS`), which ends slow ones itself.
_SHORT = timedelta(minutes=10)
_LONG = timedelta(hours=2)
_HEARTBEAT = timedelta(seconds=60)
# Before its history grows long, a run goes on as a new one.
_GRAPH_RUNS = 50
# A model that is away: the last of these puts the enrichment back to wait, so that it holds up no other one.
_A_FEW_TIMES = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    maximum_interval=timedelta(seconds=30),
    maximum_attempts=ENRICHMENT_ATTEMPTS,
)


class _Members:
    """Who of a run still goes on, and how the others ended."""

    def __init__(self, run: IngestionInput) -> None:
        self.claim = run.claim
        self.going_on = list(run.ingestion_ids)
        self.ended: dict[str, str] = {}
        self.alone: list[str] = []

    @property
    def step(self) -> StepInput:
        return StepInput(ingestion_ids=self.going_on, claim=self.claim)

    def take(self, result: StepResult) -> None:
        self.ended.update(result.ended)
        self.alone.extend(result.alone)
        self.going_on = result.going_on

    def fail_all(self, code: str) -> None:
        self.ended.update(dict.fromkeys(self.going_on, code))
        self.going_on = []

    async def roll_back(self) -> IngestionResult:
        for ingestion_id, code in self.ended.items():
            await workflow.execute_local_activity(
                "rollback_writes",
                RollbackInput(ingestion_id=ingestion_id, claim=self.claim, code=code),
                start_to_close_timeout=_SHORT,
                retry_policy=_PATIENT,
            )
        return IngestionResult(states=self.ended, alone=self.alone)


def _code(error: FailureError) -> str:
    """The code that the activity failed with. A local activity's own failure comes as it is, others' wrapped."""
    cause = error.cause if isinstance(error, ActivityError) else error
    return cause.type or "invariant" if isinstance(cause, ApplicationError) else "invariant"


@workflow.defn(name=DOCUMENT_WORKFLOW)
class DocumentIngestionWorkflow:
    """One document, in six steps; each a regular activity with heartbeats where the document is large."""

    @workflow.run
    async def run(self, run: IngestionInput) -> IngestionResult:
        members = _Members(run)
        for name in (
            "stage_document",
            "parse_document",
            "extract_entities",
            "generate_embeddings",
            "write_to_databases",
        ):
            try:
                members.take(await self._step(name, members.step, large=run.large))
            except FailureError as error:
                members.fail_all(_code(error))
            if not members.going_on:
                return await members.roll_back()
        await self._step("cleanup_staging", members.step, large=False)
        return IngestionResult()

    async def _step(self, name: str, step: StepInput, *, large: bool) -> StepResult:
        if large:
            return await workflow.execute_activity(
                name,
                step,
                result_type=StepResult,
                start_to_close_timeout=_LONG,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_PATIENT,
            )
        return await workflow.execute_local_activity(
            name, step, result_type=StepResult, start_to_close_timeout=_SHORT, retry_policy=_PATIENT
        )


@workflow.defn(name=GROUP_WORKFLOW)
class DocumentGroupWorkflow:
    """The fast lane: up to 64 small documents in three short local activities, with one commit for all."""

    @workflow.run
    async def run(self, run: IngestionInput) -> IngestionResult:
        members = _Members(run)
        for name in ("prepare_group", "generate_embeddings", "write_to_databases"):
            try:
                members.take(
                    await workflow.execute_local_activity(
                        name,
                        members.step,
                        result_type=StepResult,
                        start_to_close_timeout=_SHORT,
                        retry_policy=_PATIENT,
                    )
                )
            except FailureError:
                # One of them may be the reason: each is tried alone.
                members.alone.extend(members.going_on)
                members.going_on = []
            if not members.going_on:
                break
        if members.ended:
            await members.roll_back()
        if members.alone:
            await workflow.execute_local_activity(
                "send_alone",
                StepInput(ingestion_ids=members.alone, claim=members.claim),
                start_to_close_timeout=_SHORT,
                retry_policy=_PATIENT,
            )
        return IngestionResult(states=members.ended, alone=members.alone)


@workflow.defn(name=ENRICHMENT_WORKFLOW)
class EnrichmentWorkflow:
    """What a model adds to a version whose text is searchable: it is asked, then all is published at once.

    The activities end a failed one in the record, or put it back to wait; a run that does not complete is dispatched again.
    """

    @workflow.run
    async def run(self, given: EnrichmentInput) -> EnrichmentResult:
        result = EnrichmentResult(state=EnrichmentState.RUNNING)
        for name in ("extract_by_model", "publish_enrichment"):
            result = await workflow.execute_activity(
                name,
                given,
                result_type=EnrichmentResult,
                start_to_close_timeout=timedelta(seconds=given.seconds),
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_A_FEW_TIMES,
            )
            if result.state != EnrichmentState.RUNNING:
                break
        return result


@workflow.defn(name=GRAPH_WORKFLOW)
class GraphProjectionWorkflow:
    """Tells the graph on its server what changed in the record; while the server is down it waits here, and no text with it."""

    @workflow.run
    async def run(self) -> None:
        for _ in range(_GRAPH_RUNS):
            more = await workflow.execute_activity(
                "project_graph",
                result_type=bool,
                start_to_close_timeout=_LONG,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_PATIENT,
            )
            if not more:
                return
        workflow.continue_as_new()


@workflow.defn(name=GREETING_WORKFLOW)
class GreetingWorkflow:
    """Proof that a worker answers."""

    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_local_activity(
            "greet",
            name,
            result_type=str,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(maximum_attempts=3),
        )


@workflow.defn(name=MAINTENANCE_WORKFLOW)
class MaintenanceWorkflow:
    """What a schedule runs, and a user who does not want to wait for it."""

    @workflow.run
    async def run(self, given: MaintenanceInput | None = None) -> MaintenanceResult | int:
        if not workflow.patched("maintenance-of-all-stores"):
            return await workflow.execute_activity(
                "maintain",
                result_type=int,
                start_to_close_timeout=timedelta(minutes=10),
                retry_policy=RetryPolicy(maximum_attempts=3),
            )
        return await workflow.execute_activity(
            "maintain_stores",
            given or MaintenanceInput(),
            result_type=MaintenanceResult,
            start_to_close_timeout=_LONG,
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=RetryPolicy(maximum_attempts=3),
        )
