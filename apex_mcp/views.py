"""What `Memory` answers: the one shape that tools, the command line and pages show. All times are UTC, ISO 8601."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from apex_mcp.models import EnrichmentState, IngestionState, SourceType, Step


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True)


class FailureView(View):
    """Why an ingestion did not become searchable, and what to do."""

    code: str
    message: str
    next_step: str = ""


# What an unfinished ingestion waits for that is being cancelled.
STOPPING = "the running step, to stop"


class IngestionView(View):
    """One ingestion: a request to make a version of a document searchable."""

    ingestion_id: UUID
    document_id: UUID
    namespace: str
    key: str
    title: str = ""
    state: IngestionState
    step: Step
    steps_done: int = Field(description="Steps finished, of steps_total.")
    steps_total: int = 6
    finished: bool
    version: int | None = Field(default=None, description="Number of the version, once it is searchable.")
    chunks: int | None = None
    pages: int | None = None
    entities: int | None = None
    facts: int | None = None
    warnings: list[str] = Field(default_factory=list[str], description="What was left out, in words.")
    waiting_for: str = Field(
        default="", description="What an unfinished ingestion waits for, if it is not running."
    )
    failure: FailureView | None = None
    enrichment: EnrichmentState = Field(
        default=EnrichmentState.NONE, description="Whether a model's entities and facts are part of it."
    )
    enrichment_failure: FailureView | None = Field(
        default=None, description="Why they are not: it failed, or waits for this."
    )
    accepted_at: datetime
    finished_at: datetime | None = None
    attempts: int = 0
    workflow_id: str | None = Field(default=None, description="Id of the Temporal workflow that ran it.")


class IngestionList(View):
    """The recent ingestions of a namespace, newest first."""

    ingestions: list[IngestionView]
    next_cursor: str | None = None


class Source(View):
    """Where a passage comes from."""

    document_id: UUID
    version: int
    title: str
    uri: str
    source_type: SourceType
    media_type: str
    document_time: datetime | None = None
    ingested_at: datetime
    current: bool = Field(default=True, description="False for a version that a later one has replaced.")


class Hit(View):
    """One passage that answers, with its place and why it was found."""

    chunk_id: UUID
    text: str
    score: float = Field(description="0 to 1; comparable within one answer only.")
    why: dict[str, float] = Field(
        description="Each retriever's part of the score, for instance words, meaning, entity."
    )
    source: Source
    page: int | None = None
    page_to: int | None = None
    heading_path: list[str] = Field(default_factory=list[str])
    start: int = Field(description="Offset of the passage's first character in the document's text.")
    end: int
    entities: list[str] = Field(default_factory=list[str], description="Names of entities in the passage.")
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


class SearchView(View):
    """Answer of a search."""

    query: str
    namespace: str
    hits: list[Hit]
    revision: int = Field(description="State of the namespace that was searched.")
    degraded: list[str] = Field(
        default_factory=list[str], description="What was missing, and what the answer lacks by it."
    )


class FactView(View):
    """A statement, when it was true, and where it stands."""

    fact_id: UUID
    subject_id: UUID | None = None
    subject: str
    predicate: str
    object_id: UUID | None = Field(default=None, description="Of the entity; a plain value has none.")
    object: str
    sentence: str
    valid_at: datetime | None = None
    invalid_at: datetime | None = None
    ended_by: UUID | None = Field(default=None, description="The fact that ended it.")
    current: bool = Field(description="True at the asked time.")
    sources: list[Source] = Field(default_factory=list[Source])
    chunk_ids: list[UUID] = Field(default_factory=list[UUID])


class MergedView(View):
    """An entity that is shown as part of another, because both names mean one thing."""

    entity_id: UUID
    name: str
    reason: str


class EntityView(View):
    """A named thing with its facts and its sources."""

    entity_id: UUID
    name: str
    type: str
    aliases: list[str] = Field(default_factory=list[str])
    mentions: int
    merged_from: list[MergedView] = Field(default_factory=list[MergedView])
    facts: list[FactView] = Field(default_factory=list[FactView])
    sources: list[Source] = Field(default_factory=list[Source])


class NeighbourView(View):
    """An entity that facts join to those that were found."""

    entity_id: UUID
    name: str
    type: str
    hops: int = Field(description="Facts on the shortest way.")
    by: list[str] = Field(default_factory=list[str], description="The last of these facts, in words.")


class EntityList(View):
    """Entities, the best match or the most mentioned first."""

    namespace: str
    entities: list[EntityView]
    neighbours: list[NeighbourView] = Field(default_factory=list[NeighbourView])
    degraded: list[str] = Field(default_factory=list[str])


class VersionView(View):
    """One version of a document."""

    version: int
    accepted_at: datetime
    current: bool
    chunks: int


class DocumentView(View):
    """A document's text, or the part that was asked for, with the passage shown in place."""

    document_id: UUID
    namespace: str
    key: str
    source: Source
    text: str
    start: int
    end: int
    length: int = Field(description="Characters of the whole text.")
    next_start: int | None = Field(default=None, description="Where to go on reading, if there is more.")
    passage_start: int | None = Field(default=None, description="Offset, in `text`, of the asked passage.")
    passage_end: int | None = None
    page: int | None = None
    pages: int | None = None
    heading_path: list[str] = Field(default_factory=list[str])
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    warnings: list[str] = Field(default_factory=list[str])
    versions: list[VersionView] = Field(default_factory=list[VersionView])


class MemoryItem(View):
    """One document in a list."""

    document_id: UUID
    key: str
    title: str
    source: Source
    chunks: int
    excerpt: str


class MemoryList(View):
    """What is in a namespace, newest first, in pages."""

    namespace: str
    items: list[MemoryItem]
    total: int
    next_cursor: str | None = None


class StoreHealth(View):
    """State of one component."""

    name: str
    state: Literal["ok", "degraded", "down", "off"]
    detail: str = ""


class StatsView(View):
    """Counts and health."""

    namespace: str
    namespaces: list[str]
    documents: int
    versions: int
    chunks: int
    entities: int
    facts: int
    ingestions: dict[str, int] = Field(description="Number of ingestions by state.")
    enrichments: dict[str, int] = Field(
        default_factory=dict[str, int],
        description="Number of documents by the state of a model's work on them.",
    )
    revision: int
    stores: list[StoreHealth]
    degraded: list[str]
    embedder: str
    version: str = Field(description="Version of apex-mcp.")


class ReindexView(View):
    """How far a reindex is: documents written so far, at last the passages whose vectors are still to be computed."""

    what: str
    number: int


class EnrichView(View):
    """How far a model is with the versions that it is to read, of all namespaces."""

    waiting: int
    done: int
    failed: int


class FindingView(View):
    """One comparison of an index with the record, or of the record with itself."""

    store: Literal["record", "vectors", "graph", "staging", "cache"]
    what: str = Field(description="What should hold; empty where there is nothing to compare.")
    compared: int
    differs: int = Field(description="How many did not fit.")
    left: int = Field(description="How many still do not, after what was mended.")
    examples: list[str] = Field(description="Ids of a few that did not fit.")
    note: str


class ForgottenDocument(View):
    """A document, by what it is known by."""

    document_id: UUID
    key: str
    title: str = Field(
        default="", description="Empty where none is known, as of one that was never searchable."
    )


class ArchiveView(View):
    """An archive or a backup that was made before: out of reach of what is forgotten after."""

    kind: str = Field(description="`export`, `backup`, or `replaced`: what a restore moved aside.")
    name: str
    made_at: datetime
    documents: int | None = None


class ForgetView(View):
    """What would go, or what went."""

    namespace: str
    kind: str = Field(description="documents, entity, time_range or namespace.")
    forgotten: bool = Field(description="False: nothing has changed, this is only what would go.")
    removed: bool = Field(
        description="Rows, indexes and a graph are rid of it; until then it is invisible all the same."
    )
    waits_for: str = Field(
        default="",
        description="What is not rid of it yet, and will be by itself; get_stats says when a graph is.",
    )
    erased_by: datetime = Field(description="By when no file of the data folder holds it any more.")
    documents: int = 0
    versions: int = 0
    passages: int = 0
    entities: int = Field(default=0, description="Named things that nothing else names.")
    entities_shared: int = Field(
        default=0, description="Named things that stay, because others name them, too."
    )
    facts: int = 0
    facts_shared: int = 0
    ingestions_cancelled: int = Field(default=0, description="Accepted before, and not finished.")
    first_documents: list[ForgottenDocument] = Field(default_factory=list[ForgottenDocument])
    first_entities: list[str] = Field(default_factory=list[str])
    first_entities_shared: list[str] = Field(default_factory=list[str])
    first_facts: list[str] = Field(default_factory=list[str])
    mentioned_in: list[ForgottenDocument] = Field(
        default_factory=list[ForgottenDocument],
        description="Documents in which a forgotten entity was found, the first hundred: they stay.",
    )
    mentioning: int = Field(default=0, description="How many these are in all.")
    archives: list[ArchiveView] = Field(
        default_factory=list[ArchiveView], description="Made before; they may hold it, and are not touched."
    )


class ExportView(View):
    """An archive that was made."""

    path: str
    bytes: int
    namespaces: list[str]
    documents: int
    versions: int
    pending_ingestions: int
    originals: int | None
    originals_missing: int | None


class ExportStep(View):
    """How far an export is, and at last what was made."""

    done: int
    total: int
    archive: ExportView | None = None


class ImportView(View):
    """What came of an import: documents by what became of them, and the versions that were stored."""

    namespaces: list[str]
    documents: dict[str, int]
    versions: int
    times_kept: bool
    waiting_for_vectors: int | None


class ImportStep(View):
    """How far an import is, and at last what came of it."""

    what: Literal["checking", "storing"]
    done: int
    total: int
    result: ImportView | None = None
