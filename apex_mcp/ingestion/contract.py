"""What the server and the worker agree on: names, queue, inputs and results of the workflows.

Inputs carry ids only. A field added later has a default, so that recorded histories keep replaying.
"""

from dataclasses import dataclass, field

TASK_QUEUE = "apex-ingestion-queue"

DOCUMENT_WORKFLOW = "DocumentIngestionWorkflow"
GROUP_WORKFLOW = "DocumentGroupWorkflow"
GREETING_WORKFLOW = "GreetingWorkflow"
MAINTENANCE_WORKFLOW = "MaintenanceWorkflow"
ENRICHMENT_WORKFLOW = "EnrichmentWorkflow"
GRAPH_WORKFLOW = "GraphProjectionWorkflow"
MAINTENANCE_SCHEDULE = "apex-maintenance"

MAX_GROUP = 64
# How often a step of an enrichment is tried before it waits.
ENRICHMENT_ATTEMPTS = 4


def shared_queue(record_id: str) -> str:
    """The queue of one memory on a Temporal server that other memories may use as well."""
    return f"{TASK_QUEUE}-{record_id[:8]}"


def model_queue(task_queue: str) -> str:
    """Where what a model reads waits: for a worker that has one, beside others that have none."""
    return f"{task_queue}-model"


def graph_queue(task_queue: str) -> str:
    """Where what the graph on a server is to be told waits: for a worker that is told of that server."""
    return f"{task_queue}-graph"


def maintenance_workflow_id(task_queue: str, given: "MaintenanceInput") -> str:
    """Of a run of maintenance that a user asks for; each queue, which is each memory, has its own."""
    return f"maintain{'-and-erase' if given.erase else ''}{task_queue.removeprefix(TASK_QUEUE)}"


def graph_workflow_id(record_id: str) -> str:
    """Of the one run that brings a memory's graph on a server up to date."""
    return f"graph-projection-{record_id[:8]}"


@dataclass(frozen=True)
class IngestionInput:
    """Input of the document and the group workflow.

    Attributes:
        ingestion_ids: what to run: one id for a document workflow, 1 to `MAX_GROUP` for a group.
        claim: token of the dispatch that started this run. Steps act only on ingestions whose row still carries it,
            so a run that was replaced meanwhile changes nothing.
        large: steps may take long: regular activities with heartbeats instead of local ones.
    """

    ingestion_ids: list[str]
    claim: str
    large: bool = False


@dataclass(frozen=True)
class IngestionResult:
    """How each ingestion of a run ended: id -> state. `alone` lists those to try again outside the group."""

    states: dict[str, str] = field(default_factory=dict[str, str])
    alone: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class StepInput:
    """Input of each step activity: whom it acts on, and for which claim."""

    ingestion_ids: list[str]
    claim: str


@dataclass(frozen=True)
class StepResult:
    """Output of a step: who goes on, and who ended (id -> code), so that one failure never stops another."""

    going_on: list[str] = field(default_factory=list[str])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    alone: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class RollbackInput:
    """Input of `rollback_writes`: the ingestion, and the code of the first failure."""

    ingestion_id: str
    claim: str
    code: str


@dataclass(frozen=True)
class MaintenanceInput:
    """Input of the maintenance workflow and of its activity.

    Attributes:
        erase: rid files of what was forgotten now, and not only when it is due.
    """

    erase: bool = False


@dataclass(frozen=True)
class MaintenanceResult:
    """What maintenance did: numbers of things.

    Attributes:
        stuck: ingestions that nobody was waiting for, and that go on now.
        staged: ingestions whose staged content was past its time.
        pruned: versions that were replaced longer ago than they are kept.
        orphans: things of which an index had something, and the record nothing.
        expired: entries of the process's cache that were past their time.
        dropped: notes of removals that were over long ago.
        erased: requests to forget that files are rid of now.
        rewritten: the record's files were written anew, so that they hold nothing that was removed from it. Only those of
            the data folder's own PostgreSQL are.
    """

    stuck: int = 0
    staged: int = 0
    pruned: int = 0
    orphans: int = 0
    expired: int = 0
    dropped: int = 0
    erased: int = 0
    rewritten: bool = False


@dataclass(frozen=True)
class EnrichmentInput:
    """Input of the enrichment workflow and of its activities: what a model adds to one version.

    Attributes:
        version_id: the version, whose text is searchable already.
        claim: token of the dispatch that started this run; a run that was replaced meanwhile changes nothing.
        seconds: longest time one attempt at a step may take.
    """

    version_id: str
    claim: str
    seconds: float = 3600.0


@dataclass(frozen=True)
class EnrichmentResult:
    """How far it came: a state of `EnrichmentState`; `running` where the next step follows."""

    state: str
