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

    What a source says of the end comes first: the statement's own, then another's that tells of the same stretch of time. Else
    it is the earliest of what was told of the fact, and of what is exclusive about its predicate: the next beginning with
    another object, with another subject.

    Args:
        statements: in any order; of an exclusive predicate all those of the subjects, and of the objects.
        exclusive: predicates that have one object, or one subject, at a time.
        told: ends that a model told, by fact.
    """
    telling: dict[Hashable, list[Statement]] = {}
    for one in statements:
        if one.invalid_at is not None:
            telling.setdefault(_same(one, exclusive), []).append(one)
    begun = [
        one
        for one in statements
        if not over_before_begun(
            one, _end(one, telling.get(_same(one, exclusive), ()), told.get(one.fact_id, ()), ())
        )
    ]
    following: dict[Statement, list[End]] = {}
    for topic in _topics(begun, exclusive):
        for one, end in _following(topic):
            following.setdefault(one, []).append(end)
    return [
        _end(
            one,
            telling.get(_same(one, exclusive), ()),
            told.get(one.fact_id, ()),
            following.get(one, ()),
        )
        for one in statements
    ]


def beginnings(
    statements: Sequence[Statement], ended: Sequence[End | None], *, exclusive: Exclusive
) -> list[datetime | None]:
    """For each statement since when it holds; None where nothing is known of that.

    One of which only the end is known yields to what excludes it: it began when the last of those was over, and at no time
    where they leave it none.

    Args:
        statements: as for `ends`.
        ended: the end of each.
        exclusive: predicates that have one object, or one subject, at a time.
    """
    end_of = dict(zip(statements, ended, strict=True))
    begins = {one: None if over_before_begun(one, end) else one.begins for one, end in end_of.items()}
    presumed: dict[Statement, datetime] = {}
    for topic in _topics(statements, exclusive):
        stretches = [(what, begins[one], end_of[one]) for what, one in topic]
        for what, one in topic:
            end = end_of[one]
            if begins[one] is None and end is not None and (since := _presumed(what, end, stretches)):
                presumed[one] = max(presumed.get(one, since), since)
    return [begins[one] or presumed.get(one) for one in statements]


def _presumed(
    what: Hashable, end: End, stretches: Iterable[tuple[Hashable, datetime | None, End | None]]
) -> datetime | None:
    """When what ended then began: as another source of this stretch says, else once those that came before were over."""
    told: list[datetime] = []
    over: list[datetime] = []
    for other, since, other_end in stretches:
        ended_first = other_end is not None and other_end.at < end.at
        if other == what and not ended_first:
            if since is not None and other_end is not None and other_end.at == end.at:
                told.append(since)
        elif ended_first or (since is not None and since < end.at):
            over.append(other_end.at if ended_first and other_end is not None else end.at)
    return min(told, default=None) or max(over, default=None)


def _topics(
    statements: Iterable[Statement], exclusive: Exclusive
) -> Iterable[list[tuple[Hashable, Statement]]]:
    """Statements that may exclude each other, each with what there is one of at a time."""
    topics: dict[Hashable, list[tuple[Hashable, Statement]]] = {}
    for one in statements:
        if one.predicate in exclusive.objects:
            topics.setdefault(("of subject", one.predicate, one.subject), []).append((one.object, one))
        if one.predicate in exclusive.subjects:
            topics.setdefault(("of object", one.predicate, one.object), []).append((one.subject, one))
    return topics.values()


def _end(
    one: Statement, telling: Iterable[Statement], told: Iterable[End], following: Iterable[End]
) -> End | None:
    if one.invalid_at is not None:
        return End(at=one.invalid_at)
    next_begins = min((end.at for end in following), default=None)
    if given := [end for other in telling if (end := _end_of_same_stretch(one, other, next_begins))]:
        assert one.begins is not None  # it tells of no end
        # An undated one belongs to the stretch in which it was accepted, else to the last one before.
        later = [end for end in given if end > one.begins]
        return End(at=min(later) if later else max(given))
    since = one.known_since
    return min(
        (end for end in (*told, *following) if since is None or end.at > since),
        key=lambda end: (end.at, str(end.by)),
        default=None,
    )


def _end_of_same_stretch(one: Statement, other: Statement, next_begins: datetime | None) -> datetime | None:
    """The end that another source gives, if it speaks of the time that `one` began: nothing took its place in between.

    Who came back has an end of the second time that says nothing of the first.
    """
    begins, end, other_begins = one.begins, other.invalid_at, other.begins
    assert begins is not None
    assert end is not None
    if end <= begins:
        return end if one.known_since is None else None
    if next_begins is None or (other_begins is not None and other_begins <= begins):
        return end
    same = next_begins >= end if other_begins is None else next_begins > other_begins
    return end if same else None


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
