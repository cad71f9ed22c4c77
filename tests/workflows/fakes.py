"""Activities that do nothing but what a test says, and remember what was asked of them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from apex_mcp.errors import Code
from apex_mcp.ingestion.contract import (
    EnrichmentInput,
    EnrichmentResult,
    MaintenanceInput,
    MaintenanceResult,
    RollbackInput,
    StepInput,
    StepResult,
)
from apex_mcp.models import EnrichmentState

STEPS = (
    "stage_document", "parse_document", "extract_entities", "generate_embeddings", "write_to_databases",
    "cleanup_staging", "prepare_group",
)  # fmt: skip

ENRICHING = {
    "extract_by_model": EnrichmentState.RUNNING,
    "publish_enrichment": EnrichmentState.DONE,
}

Outcome = StepResult | EnrichmentResult | bool | Exception


class Fakes:
    """Activities by name. Every member goes on, unless `on` says otherwise.

    Attributes:
        calls: (activity, ingestion ids) in the order in which they were called.
        rolled_back: (ingestion id, code) of each `rollback_writes`.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.rolled_back: list[tuple[str, str]] = []
        self._scripts: dict[str, list[Outcome]] = {}

    def on(self, name: str, *outcomes: Outcome) -> None:
        """What the next calls of this activity give, in order."""
        self._scripts[name] = list(outcomes)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def all(self) -> list[Callable[..., Any]]:
        steps = [*map(self._step, STEPS), *map(self._enriching, ENRICHING)]
        return [
            *steps,
            self.rollback_writes,
            self.send_alone,
            self.project_graph,
            self.greet,
            self.maintain,
            self.maintain_stores,
        ]

    def _step(self, name: str) -> Callable[..., Any]:
        @activity.defn(name=name)
        async def step(given: StepInput) -> StepResult:
            self.calls.append((name, given.ingestion_ids))
            outcome = self._next(name, StepResult(going_on=given.ingestion_ids))
            assert isinstance(outcome, StepResult)
            return outcome

        return step

    def _enriching(self, name: str) -> Callable[..., Any]:
        @activity.defn(name=name)
        async def step(given: EnrichmentInput) -> EnrichmentResult:
            self.calls.append((name, [given.version_id]))
            outcome = self._next(name, EnrichmentResult(state=ENRICHING[name]))
            assert isinstance(outcome, EnrichmentResult)
            return outcome

        return step

    def _next(self, name: str, otherwise: Outcome) -> Outcome:
        script = self._scripts.get(name)
        outcome = script.pop(0) if script else otherwise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @activity.defn(name="rollback_writes")
    async def rollback_writes(self, given: RollbackInput) -> None:
        self.calls.append(("rollback_writes", [given.ingestion_id]))
        self.rolled_back.append((given.ingestion_id, given.code))

    @activity.defn(name="send_alone")
    async def send_alone(self, given: StepInput) -> None:
        self.calls.append(("send_alone", given.ingestion_ids))

    @activity.defn(name="project_graph")
    async def project_graph(self) -> bool:
        self.calls.append(("project_graph", []))
        outcome = self._next("project_graph", False)
        assert isinstance(outcome, bool)
        return outcome

    @activity.defn(name="greet")
    async def greet(self, name: str) -> str:
        return f"Hello, {name}"

    @activity.defn(name="maintain")
    async def maintain(self) -> int:
        return 3

    @activity.defn(name="maintain_stores")
    async def maintain_stores(self, given: MaintenanceInput) -> MaintenanceResult:
        return MaintenanceResult(staged=3, erased=int(given.erase))


def final(code: Code) -> ApplicationError:
    """What the worker tells Temporal of an error that no retry can cure."""
    return ApplicationError(str(code), type=str(code), non_retryable=True)


def passing(code: Code, *, retry_seconds: float | None = None) -> ApplicationError:
    """What it tells of one that the same call may survive."""
    delay = timedelta(seconds=retry_seconds) if retry_seconds is not None else None
    return ApplicationError(str(code), type=str(code), next_retry_delay=delay)
