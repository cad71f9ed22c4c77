"""How chunks look in every vector index: their payload, what a filter means, and how pages are cut out of a ranking.

`scope` says whose a point is and whether it is current, so that one condition finds what is current in a namespace. All
that is matched exactly is in `tags`; `from` and `to` are the revisions between which a past point was current.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement
from apex_mcp.stores.vectors.protocol import MAX_DEPTH

DENSE = "dense"
WORDS = "words"

# Pages of up to this many candidates come out of one and the same walk through the graph.
HNSW_EF = 256

Scalar = str | int | float | bool | UUID


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field holds one of the values."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Numbers:
    """The field's number is at most `lte`, or more than `gt`."""

    field: str
    lte: int | None = None
    gt: int | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """The field's time is in a half-open range."""

    field: str
    gte: datetime | None = None
    lt: datetime | None = None


Condition = OneOf | Numbers | Times


def payload(source: IndexPoint) -> dict[str, Any]:
    """What an index keeps of a chunk beside its vectors."""
    when = {} if source.retirement is None else past_payload(source.namespace, source.retirement)
    return {
        "namespace": source.namespace,
        "version": str(source.version_id),
        "scope": current(source.namespace),
        "tags": [
            _tag("version", source.version_id),
            _tag("document", source.document_id),
            _tag("source", source.source_type),
            _tag("media", source.media_type),
            *(
                _tag(f"metadata {name}", one)
                for name, value in source.metadata.items()
                for one in (value if isinstance(value, list) else [value])
            ),
        ],
        "time": source.document_time.isoformat() if source.document_time else None,
        **when,
    }


def past_payload(namespace: str, retirement: Retirement) -> dict[str, Any]:
    """What changes in a chunk's payload when its version is past."""
    return {"scope": past(namespace), "from": retirement.revision_from, "to": retirement.revision_to}


# What of a payload `holding` reads.
HELD = ("namespace", "version", "scope", "tags", "from", "to")


def holding(
    point_id: PointId, payload: Mapping[str, Any] | None, *, dense: bool, found: bool
) -> Holding | ForeignPoint:
    """How a point with this payload is held: as a version's only if it would be found, retired and deleted as such."""
    match payload:
        case {"namespace": str(namespace), "scope": scope} if scope == current(namespace):
            retired = None
        case {"namespace": str(namespace), "scope": scope, "from": int(start), "to": int(end)} if (
            scope == past(namespace)
        ):
            retired = (start, end)
        case _:
            return ForeignPoint(point_id)
    with suppress(ValueError):
        match payload:
            case {"version": str(version), "tags": [*tags]} if _tag("version", UUID(version)) in tags:
                return Holding(UUID(version), retired, dense, found)
            case _:
                pass
    return ForeignPoint(point_id)


def scopes(payloads: Iterable[Mapping[str, Any] | None]) -> OneOf:
    """Points in any of the scopes that these are in."""
    return OneOf("scope", tuple({str(one["scope"]) for one in payloads if one and "scope" in one}))


def filled(start: str, version_id: UUID) -> str:
    """How an index notes that the filling that began at a position has written the versions up to this one."""
    return f"{start} {version_id}"


def read_filled(noted: str | None, start: str) -> UUID | None:
    """The version in such a note; None where there is none, or it is of another filling."""
    begun, _, version_id = (noted or "").partition(" ")
    return UUID(version_id) if begun == start else None


def scope(where: IndexFilter) -> list[tuple[Condition, ...]]:
    """What is visible in a namespace at a time: all conditions of any of these."""
    now: tuple[Condition, ...] = (OneOf("scope", (current(where.namespace),)),)
    if where.revision is None:
        return [now]
    then: tuple[Condition, ...] = (
        OneOf("scope", (past(where.namespace),)),
        Numbers("from", lte=where.revision),
        Numbers("to", gt=where.revision),
    )
    return [now, then]


def narrowing(where: IndexFilter) -> list[Condition]:
    """What else a candidate must match: every one of these."""
    conditions: list[Condition] = []
    if where.source_types:
        conditions.append(tagged("source", *where.source_types))
    if where.media_types:
        conditions.append(tagged("media", *where.media_types))
    if where.document_ids:
        conditions.append(tagged("document", *where.document_ids))
    if where.after or where.before:
        conditions.append(Times("time", gte=where.after, lt=where.before))
    return conditions + [tagged(f"metadata {name}", *values) for name, values in where.metadata.items()]


def current(namespace: str) -> str:
    """The scope of what is current."""
    return f"current {namespace}"


def past(namespace: str) -> str:
    """The scope of what is past."""
    return f"past {namespace}"


def of_versions(version_ids: Sequence[UUID]) -> OneOf:
    """Every point of these versions."""
    return tagged("version", *version_ids)


def tagged(name: str, *values: Scalar) -> OneOf:
    """Points that have one of the values under a name."""
    return OneOf("tags", tuple(_tag(name, value) for value in values))


def _tag(name: str, value: Scalar) -> str:
    """A name and a value as one keyword, short and of plain characters whatever they are."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return hashlib.blake2b(json.dumps([name, value], default=str).encode(), digest_size=12).hexdigest()


def next_depth(scores: Sequence[float], depth: int, end: int) -> int | None:
    """How many candidates to ask for next; None when those at hand will do.

    An engine orders equal scores as it likes, so it is asked for more until none straddle the end of the page.
    """
    if len(scores) < depth or scores[-1] < scores[end - 1] or depth > MAX_DEPTH:
        return None
    return min(4 * depth, MAX_DEPTH + 1)


def page(hits: Iterable[tuple[float, UUID]], offset: int, end: int) -> list[Candidate]:
    """The candidates from `offset` to `end`, by score, then id."""
    ranked = sorted((-score, chunk_id) for score, chunk_id in hits)
    return [Candidate(chunk_id=chunk_id, score=-negative) for negative, chunk_id in ranked[offset:end]]
