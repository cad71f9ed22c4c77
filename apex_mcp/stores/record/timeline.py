"""When facts were true: where a subject has one object at a time, or an object one subject, a fact ends where the next begins."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from apex_mcp.models import Exclusive

# Where no ontology says otherwise.
EXCLUSIVE = Exclusive(
    objects=frozenset({
        "works_at",
        "works_for",
        "employed_by",
        "headquartered_in",
        "lives_in",
        "based_in",
        "status",
        "ceo_of",
    }),
    subjects=frozenset({"ceo_of"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One source's word on a fact.

    Attributes:
        subject, predicate, object: what it says, by what its entities are shown as.
        said_at: the time of the source: its own date, else when it was accepted.
        dated: whether it has a date of its own.
    """

    fact_id: UUID
    subject: Hashable
    predicate: str
    object: Hashable
    said_at: datetime
    valid_at: datetime | None = None
    invalid_at: datetime | None = None
    dated: bool = True

    @property
    def begins(self) -> datetime | None:
        """Since when it holds by this source; None where it tells of the past only."""
        if self.valid_at is None and self.invalid_at is not None and self.invalid_at <= self.said_at:
            return None
        return self.valid_at or self.said_at

    @property
    def known_since(self) -> datetime | None:
        """The same, where the source says when: that it was accepted at some time tells nothing of what it says."""
        return self.begins if self.dated or self.valid_at is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """When something ended, and by which fact, where it was one."""

    at: datetime
    by: UUID | None = None


def ends(
    statements: Sequence[Statement], *, exclusive: Exclusive, told: Mapping[UUID, Sequence[End]]
) -> list[End | None]:
    """For each statement its end.

    What a source says of the end comes first: the statement's own, then another's of the same fact. Else it is the earliest
    of what was told of the fact, and of what is exclusive about its predicate: the next beginning with another object, with
    another subject.

    Args:
        statements: in any order; of an exclusive predicate all those of the subjects, and of the objects.
        exclusive: predicates that have one object, or one subject, at a time.
        told: ends that a model told, by fact.
    """
    explicit: dict[Hashable, list[datetime]] = {}
    for one in statements:
        if one.invalid_at is not None:
            explicit.setdefault(_same(one, exclusive), []).append(one.invalid_at)
    by_subject: dict[Hashable, list[tuple[Hashable, Statement]]] = {}
    by_object: dict[Hashable, list[tuple[Hashable, Statement]]] = {}
    for one in statements:
        given = _end(one, explicit.get(_same(one, exclusive), ()), told.get(one.fact_id, ()))
        if over_before_begun(one, given):
            continue
        if one.predicate in exclusive.objects:
            by_subject.setdefault((one.predicate, one.subject), []).append((one.object, one))
        if one.predicate in exclusive.subjects:
            by_object.setdefault((one.predicate, one.object), []).append((one.subject, one))
    following: dict[Statement, list[End]] = {}
    for topic in (*by_subject.values(), *by_object.values()):
        for one, end in _following(topic):
            following.setdefault(one, []).append(end)
    return [
        _end(
            one,
            explicit.get(_same(one, exclusive), ()),
            [*told.get(one.fact_id, ()), *following.get(one, ())],
        )
        for one in statements
    ]


def _end(one: Statement, explicit: Iterable[datetime], others: Iterable[End]) -> End | None:
    if one.invalid_at is not None:
        return End(at=one.invalid_at)
    since = one.known_since
    if later := [time for time in explicit if since is None or time > since]:
        return End(at=min(later))
    return min(
        (end for end in others if since is None or end.at > since), key=lambda end: end.at, default=None
    )


def over_before_begun(one: Statement, end: End | None) -> bool:
    """Whether an undated source tells of what had ended before it was accepted: it began some time before that."""
    return end is not None and one.known_since is None and one.begins is not None and end.at <= one.begins


def _same(one: Statement, exclusive: Exclusive) -> Hashable:
    """What makes two statements the same fact; of one that may hold several times at once, its beginning too."""
    fact = (one.subject, one.predicate, one.object)
    return fact if one.predicate in exclusive else (fact, one.valid_at)


def _following(statements: Iterable[tuple[Hashable, Statement]]) -> Iterable[tuple[Statement, End]]:
    """Of statements, each with what there is one of at a time, those that end, with the next beginning of another."""
    dated = sorted(
        ((begins, what, one) for what, one in statements if (begins := one.begins) is not None),
        key=lambda triple: triple[0],
    )
    groups = [
        (time, [(what, one) for _, what, one in group]) for time, group in groupby(dated, key=lambda t: t[0])
    ]
    found: dict[tuple[Hashable, datetime], End] = {}
    for (time, group), (next_time, next_group) in zip(groups[-2::-1], groups[:0:-1], strict=True):
        for what, one in group:
            by = next((later for other, later in next_group if other != what), None)
            end = End(at=next_time, by=by.fact_id) if by is not None else found.get((what, next_time))
            if end is not None:
                found[what, time] = end
                yield one, end
