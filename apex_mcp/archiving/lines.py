"""What stands in an archive, line by line. docs/archive.md describes each field; a change of meaning raises `VERSION`."""

import math
from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, cast
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from apex_mcp.models import SourceType
from apex_mcp.stores.record.versions import LESS_THAN

FORMAT = "apex-mcp archive"
VERSION = 1
ORIGINALS = "originals/"

_MAX_REVISION = 2**53
# Numbers of a record's entities in the order in which they came: no record comes near, and no archive can use them up.
_MAX_ARRIVAL = 2**40
# The same of the number of a document's version.
_MAX_NUMBER = 2**30
_MAX_INT = 2**31 - 1
_MAX_DEPTH = 32


def _sayable(words: str) -> str:
    """PostgreSQL has no character 0."""
    if "\x00" in words:
        raise ValueError("a character that no text has")
    return words


def _storable(value: Any, depth: int = 0) -> Any:
    """Any JSON that PostgreSQL takes."""
    if depth > _MAX_DEPTH:
        raise ValueError("too many levels")
    if isinstance(value, str):
        return _sayable(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("no finite number")
    parts: Iterable[Any] = ()
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        parts = (*entries, *entries.values())
    elif isinstance(value, list):
        parts = cast("list[Any]", value)
    for part in parts:
        _storable(part, depth + 1)
    return cast("Any", value)


def _within_the_calendar(time: datetime) -> datetime:
    """One that can be told in UTC."""
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("before the first year, or after the last") from None


def _base64(words: str) -> str:
    b64decode(words, validate=True)
    return words


Words = Annotated[str, AfterValidator(_sayable)]
# Far beyond what is accepted, so that no archive of ours is refused.
Name = Annotated[Words, Field(max_length=20_000)]
Key = Annotated[Words, Field(min_length=1, max_length=20_000)]
Namespace = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ContentHash = Annotated[str, Field(pattern=rf"^({LESS_THAN})?[0-9a-f]{{64}}$")]
Count = Annotated[int, Field(ge=0, le=_MAX_INT)]
Revision = Annotated[int, Field(ge=0, le=_MAX_REVISION)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Time = Annotated[AwareDatetime, AfterValidator(_within_the_calendar)]
Base64 = Annotated[str, AfterValidator(_base64), Field(max_length=100_000)]
AnyJson = Annotated[Any, AfterValidator(_storable)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_storable)]
LayerNumber = Literal[0, 1]


class Line(BaseModel):
    """One line of a member."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class NamespaceLine(Line):
    name: Namespace
    revision: Revision
    arrivals: Annotated[int, Field(ge=0, le=_MAX_ARRIVAL)]
    created_at: Time
    known_from: Time | None


class RevisionLine(Line):
    namespace: Namespace
    revision: Revision
    committed_at: Time


class VersionLine(Line):
    id: UUID
    namespace: Namespace
    key: Key
    document_created_at: Time
    number: Annotated[int, Field(ge=1, le=_MAX_NUMBER)]
    previous: UUID | None
    newest: bool
    newest_hash: ContentHash
    content_hash: ContentHash
    title: Name
    uri: Words
    source_type: SourceType
    media_type: Name
    document_time: Time | None
    accepted_at: Time
    committed_at: Time
    metadata: JsonObject
    warnings: list[Words]
    revision_from: Annotated[int, Field(ge=1, le=_MAX_REVISION)]
    revision_to: Revision | None
    enriched_from: Revision | None
    usage: dict[Name, Number] | None
    text: Words
    pages: list[tuple[Count, Count, Count]]
    headings: list[tuple[Count, Words, Count, Count]]
    chunks: Count
    original: Hash | None


class ChunkLine(Line):
    version: UUID
    ordinal: Count
    text: Words
    start: Count
    end: Count
    page_from: Count | None
    page_to: Count | None
    heading_path: list[Words]
    tokens: Count


class VectorLine(Line):
    version: UUID
    ordinal: Count
    vector: Base64


class EntityLine(Line):
    version: UUID
    layer: LayerNumber
    entity: Name
    core: Name
    arrival: Annotated[int, Field(ge=0, le=_MAX_ARRIVAL)]
    name: Name
    type: Name
    aliases: list[Name]
    chunks: list[Count]


class FactLine(Line):
    version: UUID
    layer: LayerNumber
    subject: Name
    predicate: Name
    object: Name
    chunk: Count
    sentence: Words
    valid_at: Time | None
    invalid_at: Time | None


class AnswerLine(Line):
    version: UUID
    key: Name
    content: AnyJson
    asked: bool
    created_at: Time


class PairLine(Line):
    """Two entities."""

    namespace: Namespace
    a: Name
    b: Name

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.a == self.b:
            raise ValueError("an entity and itself")
        return self


class LinkLine(PairLine):
    key: Key
    version: UUID
    layer: LayerNumber
    reason: Literal["name", "alias", "meaning", "model", "different"]


class EndLine(Line):
    namespace: Namespace
    key: Key
    version: UUID
    subject: Name
    predicate: Name
    object: Name
    valid_at: Time | None
    by_subject: Name
    by_predicate: Name
    by_object: Name
    by_valid_at: Time | None
    invalid_at: Time


class SplitLine(PairLine):
    revision_from: Revision
    revision_to: Revision | None
    created_at: Time


class NameVectorLine(Line):
    namespace: Namespace
    entity: Name
    vector: Base64


class TombstoneLine(Line):
    key: UUID
    secret: Base64
    digest: Base64
    kind: Literal["document", "entity"]
    forgotten_at: Time


# In the order in which they are written. Those behind `versions` up to `answers` follow its order.
LINES: dict[str, type[Line]] = {
    "namespaces.jsonl": NamespaceLine,
    "revisions.jsonl": RevisionLine,
    "versions.jsonl": VersionLine,
    "chunks.jsonl": ChunkLine,
    "vectors.jsonl": VectorLine,
    "entities.jsonl": EntityLine,
    "facts.jsonl": FactLine,
    "answers.jsonl": AnswerLine,
    "links.jsonl": LinkLine,
    "ends.jsonl": EndLine,
    "splits.jsonl": SplitLine,
    "name_vectors.jsonl": NameVectorLine,
    "tombstones.jsonl": TombstoneLine,
}
