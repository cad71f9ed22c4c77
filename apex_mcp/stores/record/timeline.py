"""When facts were true: of a predicate that has one object at a time, a fact ends where the next one begins."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

# Predicates with one object at a time, unless an ontology says otherwise.
EXCLUSIVE = frozenset({
    "works_at",
    "works_for",
    "employed_by",
    "headquartered_in",
    "lives_in",
    "based_in",
    "status",
})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One source's word on a fact.

    Attributes:
        topic: what may have one object at a time: subject and predicate.
        object: what the fact says of it.
        said_at: the time of the source: its own date, else when it was accepted.
    """

    fact_id: UUID
    topic: Hashable
    object: Hashable
    said_at: datetime
    valid_at: datetime | None = None
    invalid_at: datetime | None = None

    @property
    def begins(self) -> datetime | None:
        """Since when it holds by this source; None where it tells of the past only."""
        if self.valid_at is None and self.invalid_at is not None and self.invalid_at <= self.said_at:
            return None
        return self.valid_at or self.said_at


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """When something ended, and by which fact, where it was one."""

    at: datetime
    by: UUID | None = None


def ends(
    statements: Sequence[Statement], *, exclusive: bool, told: Mapping[UUID, Sequence[End]]
) -> list[End | None]:
    """For each statement of one topic its end.

    What a source says of the end comes first: the statement's own, then another's of the same object. Else it is the earliest
    of what was told of the fact, and, with `exclusive`, of the next beginning of another object.

    Args:
        statements: in any order.
        exclusive: whether the topic has one object at a time.
        told: ends that a model told, by fact.
    """
    explicit: dict[Hashable, list[datetime]] = {}
    for one in statements:
        if one.invalid_at is not None:
            explicit.setdefault(_same(one, exclusive), []).append(one.invalid_at)
    following = _following(statements) if exclusive else {}
    return [_end(one, explicit.get(_same(one, exclusive), ()), following, told) for one in statements]


def _end(
    one: Statement,
    explicit: Iterable[datetime],
    following: Mapping[tuple[Hashable, datetime], End],
    told: Mapping[UUID, Sequence[End]],
) -> End | None:
    if one.invalid_at is not None:
        return End(at=one.invalid_at)
    begins = one.begins
    assert begins is not None  # only one that gives its end may lack a beginning
    if later := [time for time in explicit if time > begins]:
        return End(at=min(later))
    candidates = [end for end in told.get(one.fact_id, ()) if end.at > begins]
    if (end := following.get((one.object, begins))) is not None:
        candidates.append(end)
    return min(candidates, key=lambda end: end.at, default=None)


def _same(one: Statement, exclusive: bool) -> Hashable:
    """What makes two statements of a topic the same fact; of one that may hold several times at once, its beginning too."""
    return one.object if exclusive else (one.object, one.valid_at)


def _following(statements: Sequence[Statement]) -> dict[tuple[Hashable, datetime], End]:
    """For each object and beginning the next beginning of another object."""
    dated = sorted(
        ((begins, one) for one in statements if (begins := one.begins) is not None), key=lambda pair: pair[0]
    )
    groups = [(time, [one for _, one in group]) for time, group in groupby(dated, key=lambda pair: pair[0])]
    found: dict[tuple[Hashable, datetime], End] = {}
    for (time, group), (next_time, next_group) in zip(groups[-2::-1], groups[:0:-1], strict=True):
        for one in group:
            other = next((later for later in next_group if later.object != one.object), None)
            if other is not None:
                found[one.object, time] = End(at=next_time, by=other.fact_id)
            elif (end := found.get((one.object, next_time))) is not None:
                found[one.object, time] = end
    return found
