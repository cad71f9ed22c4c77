"""The domain's words, as plain data.

Who produces what, in the order that data flows:

source -> ParsedDocument -> Chunk -> Extraction -> vectors -> a committed version -> Passage

Offsets count characters (Python string indexes) in the parsed text of a version. Times are aware datetimes.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

Scalar = str | int | float | bool


class SourceType(StrEnum):
    """Where a document comes from."""

    LOCAL_UPLOAD = "local_upload"
    INLINE = "inline"


class IngestionState(StrEnum):
    """The state of one ingestion. All but `pending` and `running` are final."""

    PENDING = "pending"
    RUNNING = "running"
    READY = "ready"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    ROLLED_BACK = "rolled_back"

    @property
    def finished(self) -> bool:
        return self not in (IngestionState.PENDING, IngestionState.RUNNING)


# Ended so that it may be tried again: what is staged for it is kept for some time.
RETRYABLE = (IngestionState.ROLLED_BACK, IngestionState.CANCELLED)


class EnrichmentState(StrEnum):
    """Whether a model's entities and facts are part of a version; `none` where no model is asked."""

    NONE = "none"
    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Predicates whose facts end each other: holds those of both kinds.

    Attributes:
        objects: a subject has one object at a time (who works at another company no longer works at the first).
        subjects: an object has one subject at a time (a company with another chief no longer has the first).
    """

    objects: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()

    def __contains__(self, predicate: str) -> bool:
        return predicate in self.objects or predicate in self.subjects


class Layer(IntEnum):
    """With which commit of a version something becomes visible: with its text, or with what a model found in it."""

    TEXT = 0
    MODEL = 1


class Step(StrEnum):
    """The six steps of a document, in order; `accepted` before the first."""

    ACCEPTED = "accepted"
    STAGE = "stage_document"
    PARSE = "parse_document"
    EXTRACT = "extract_entities"
    EMBED = "generate_embeddings"
    WRITE = "write_to_databases"
    CLEANUP = "cleanup_staging"


STEPS = tuple(Step)


class Lane(StrEnum):
    """How an ingestion runs: in a group with others, or in a workflow of its own."""

    FAST = "fast"
    OWN = "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityInput:
    """An entity that the caller gives; without a type it is one that a given fact names."""

    name: str
    type: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FactInput:
    """A fact that the caller gives; subject and object name entities, `object` may also be a plain value."""

    subject: str
    predicate: str
    object: str
    sentence: str = ""
    valid_at: datetime | None = None
    invalid_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionRequest:
    """One accepted request, as the record keeps it. Exactly one of `path` and `text` is set.

    Attributes:
        key: the document's stable key within the namespace (a URI, or the caller's own id).
        document_time: when the document itself says it is from, where the caller knows.
        size_bytes: size of the file or text when accepted; decides the lane.
        fingerprint: hash of what idempotency compares (content or file identity, facts, metadata, options).
        idempotency_key: the caller's own key; the same key returns the same ingestion, also when it is over.
        bulk: part of a long list; runs behind single requests.
        upload: the file's bytes were staged under this id, which is to be the ingestion's: whoever runs it may be on another
            machine. `path` then only names the file.
    """

    namespace: str
    key: str
    source_type: SourceType
    lane: Lane
    fingerprint: str
    title: str = ""
    uri: str = ""
    path: str | None = None
    text: str | None = None
    media_type: str = ""
    document_time: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    entities: tuple[EntityInput, ...] = ()
    facts: tuple[FactInput, ...] = ()
    size_bytes: int = 0
    idempotency_key: str | None = None
    bulk: bool = False
    upload: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSpan:
    """One page (or slide, or sheet) of a parsed text; numbers start at 1."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadingSpan:
    """One heading in a parsed text; level 1 is the outermost."""

    level: int
    title: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDocument:
    """A document's text and structure.

    Attributes:
        text: the whole text, in Unicode, with single line feeds and without control characters.
        media_type: the type that was recognised from the content.
        document_time: creation or sending time that the document itself carries (metadata, e-mail Date).
        warnings: what was left out, in words for the user ("3 of 10 pages have no text").
    """

    text: str
    title: str
    media_type: str
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[HeadingSpan, ...] = ()
    document_time: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a passage stands: character offsets, pages (from 1, both ends included), the headings above it."""

    start: int
    end: int
    page_from: int | None = None
    page_to: int | None = None
    heading_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A passage of a version, not yet given an id; `ordinal` counts from 0."""

    ordinal: int
    text: str
    place: Place
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedEntity:
    """A named thing found in a document, and the ordinals of the chunks that name it."""

    name: str
    type: str
    aliases: tuple[str, ...] = ()
    chunks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractedFact:
    """A statement found in a document. `object_is_entity` tells a named thing from a plain value."""

    subject: str
    predicate: str
    object: str
    sentence: str
    chunk: int
    object_is_entity: bool = True
    valid_at: datetime | None = None
    invalid_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What was extracted from one document; every name in `facts` is in `entities` too, or is a plain value.

    Attributes:
        ungrounded: number of entities, facts and times of facts that a model gave and the text does not hold; they are left out.
    """

    entities: tuple[ExtractedEntity, ...] = ()
    facts: tuple[ExtractedFact, ...] = ()
    ungrounded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """A version that is past: it was current from `revision_from` until before `revision_to`."""

    version_id: UUID
    revision_from: int
    revision_to: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexPoint:
    """One chunk as the vector index holds it.

    Attributes:
        id: the chunk's id.
        dense: the embedder's unit vector, or None while there is none.
        text: what it is searched by: the passage, with its title and headings.
        metadata: the document's, as flat fields, for filters.
        retirement: of its version, where that is past already.
    """

    id: UUID
    namespace: str
    version_id: UUID
    document_id: UUID
    text: str
    source_type: str
    media_type: str
    document_time: datetime | None
    metadata: dict[str, Scalar | list[Scalar]]
    dense: list[float] | None = None
    retirement: Retirement | None = None


class Holding(NamedTuple):
    """How an index holds points of a version.

    Attributes:
        retired: the revisions between which they are marked as current; None where they are so now.
        dense: they have vectors.
        found: they have words, and are where searches of their namespace look; False where a passage has no words, too.
    """

    version_id: UUID
    retired: tuple[int, int] | None
    dense: bool
    found: bool = True


# All of ours are UUIDs; what others put into an index may have a number.
PointId = UUID | int


class ForeignPoint(NamedTuple):
    """A point in an index that is not as any version's are: another's, or one of ours that was changed there."""

    point_id: PointId


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFilter:
    """What a candidate must match; empty fields match all.

    Attributes:
        revision: look at this past revision of the namespace; None is now.
        metadata: every given field must equal, or be one of, the given values.
        after, before: half-open range of the document's time.
    """

    namespace: str
    revision: int | None = None
    source_types: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    document_ids: tuple[UUID, ...] = ()
    after: datetime | None = None
    before: datetime | None = None
    metadata: dict[str, tuple[str | int | float | bool, ...]] = field(
        default_factory=dict[str, tuple[str | int | float | bool, ...]]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A chunk that an index proposes, with that index's own score (higher is better)."""

    chunk_id: UUID
    score: float
