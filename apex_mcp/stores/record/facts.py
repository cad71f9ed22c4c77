"""Facts of entities, as linked entities and later facts make them appear."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp.models import Exclusive
from apex_mcp.stores.record.components import Component
from apex_mcp.stores.record.snapshot import Snapshot
from apex_mcp.stores.record.timeline import End, Statement, beginnings, ends
from apex_mcp.stores.record.visibility import NAMED, SOURCE, VISIBLE, VISIBLE_SOURCE

_COLUMNS: LiteralString = f"""
f.id, f.subject_id, f.predicate, f.object_id, f.object_text, s.sentence, s.valid_at, s.invalid_at, s.chunk_id,
coalesce(v.document_time, i.accepted_at) AS said_at, v.document_time IS NOT NULL AS dated, v.ingestion_seq, {SOURCE},
(SELECT n.name FROM entity_sources n WHERE n.entity_id = f.subject_id AND n.version_id = v.id
 ORDER BY n.layer LIMIT 1) AS subject_name,
(SELECT {NAMED} FROM entities e WHERE e.id = f.object_id) AS object_named
"""

_FACTS: LiteralString = f"""
SELECT {_COLUMNS}
FROM facts f JOIN fact_sources s ON s.fact_id = f.id JOIN versions v ON v.id = s.version_id
JOIN documents d ON d.id = v.document_id JOIN ingestions i ON i.id = v.ingestion_id
WHERE (f.subject_id = ANY(%(entities)s) OR f.object_id = ANY(%(entities)s)) AND {VISIBLE_SOURCE}
ORDER BY s.valid_at DESC NULLS LAST, f.id, v.ingestion_seq DESC LIMIT %(limit)s
"""

_FACTS_STATING: LiteralString = f"""
WITH wanted(s, p, o) AS (SELECT DISTINCT * FROM unnest(%(subjects)s::uuid[], %(predicates)s::text[], %(objects)s::uuid[]))
SELECT {_COLUMNS}
FROM (SELECT f.* FROM wanted w JOIN facts f ON f.subject_id = w.s AND f.predicate = w.p AND (w.o IS NULL OR f.object_id = w.o)
      UNION SELECT f.* FROM wanted w JOIN facts f ON f.object_id = w.o AND f.predicate = w.p WHERE w.s IS NULL) AS f
JOIN fact_sources s ON s.fact_id = f.id JOIN versions v ON v.id = s.version_id
JOIN documents d ON d.id = v.document_id JOIN ingestions i ON i.id = v.ingestion_id
WHERE {VISIBLE_SOURCE}
"""

# Every word on what the facts above say something exclusive of, for what it says of their times. Each end has an index of
# its own.
_STATEMENTS: LiteralString = f"""
SELECT f.id, f.subject_id, f.predicate, f.object_id, s.version_id, s.layer, s.valid_at, s.invalid_at,
       coalesce(v.document_time, i.accepted_at) AS said_at, v.document_time IS NOT NULL AS dated
FROM (SELECT * FROM facts WHERE subject_id = ANY(%(subjects)s) AND predicate = ANY(%(of_subjects)s)
      UNION SELECT * FROM facts WHERE object_id = ANY(%(objects)s) AND predicate = ANY(%(of_objects)s)) AS f
JOIN fact_sources s ON s.fact_id = f.id JOIN versions v ON v.id = s.version_id
JOIN ingestions i ON i.id = v.ingestion_id
WHERE {VISIBLE_SOURCE}
"""

_TOLD: LiteralString = f"""
SELECT x.fact_id, x.by_fact_id, x.invalid_at, f.subject_id, b.subject_id AS by_subject_id
FROM fact_ends x JOIN versions v ON v.id = x.version_id
JOIN facts f ON f.id = x.fact_id JOIN facts b ON b.id = x.by_fact_id
WHERE x.fact_id = ANY(%(facts)s) AND {VISIBLE} AND v.enriched_from <= %(revision)s
  AND EXISTS (SELECT 1 FROM fact_sources s JOIN versions v ON v.id = s.version_id
              WHERE s.fact_id = x.by_fact_id AND {VISIBLE_SOURCE})
"""

# Since when a statement holds, and its end.
_Stretch = tuple[datetime | None, End | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A fact as it is shown: what its sources say together, over one stretch of time.

    Attributes:
        id: of the fact; the same statement of linked entities has several ids, this is one of them.
        subject_id, object_id: ids under which the entities are shown; an object may be a plain value, under an id that none has.
        object_named: whether the object is an entity.
        valid_at: since when, as it is shown: where a source says so, of what is exclusive also by the source's own date.
        begins: the earliest time that a source says or has, if only when it was accepted; None where all tell of the past only.
        known_since: the same, where a source or its own date says so; not when one was accepted.
        invalid_at: when it ended.
        ended_by: the fact that ended it, where it was one.
        exclusive: whether its predicate has one object, or one subject, at a time.
        told_by: facts that ended it as a model told, at this time or at another.
        sources: rows of its sources, the newest first.
    """

    id: UUID
    subject_id: UUID
    predicate: str
    object_id: UUID
    object_named: bool
    subject: str
    object: str
    sentence: str
    valid_at: datetime | None
    begins: datetime | None
    known_since: datetime | None
    invalid_at: datetime | None
    ended_by: UUID | None
    exclusive: bool
    told_by: frozenset[UUID]
    sources: tuple[dict[str, Any], ...]

    @property
    def holds_from(self) -> datetime | None:
        """Since when it counts as true; None where it always did, until it ended."""
        return self.begins if self.exclusive else self.valid_at

    def holds(self, time: datetime) -> bool:
        """Whether it was true at a time, as far as is known."""
        since = self.holds_from
        return (since is None or since <= time) and (self.invalid_at is None or self.invalid_at > time)


async def facts_of(
    snapshot: Snapshot, entities: Collection[UUID], *, exclusive: Exclusive, limit: int
) -> list[Fact]:
    """Facts about entities and those linked with them, from at most `limit` sources."""
    members = {one for group in (await snapshot.components(entities)).values() for one in group.members}
    rows = await snapshot.rows(_FACTS, entities=list(members), limit=limit)
    return await _as_shown(snapshot, rows, exclusive)


async def facts_stating(
    snapshot: Snapshot, wanted: Collection[tuple[UUID | None, str, UUID | None]], *, exclusive: Exclusive
) -> list[Fact]:
    """Facts by (subject, predicate, object), exactly these ids; without one of them whatever is said of the other two."""
    rows = await snapshot.rows(
        _FACTS_STATING,
        subjects=[subject for subject, _, _ in wanted],
        predicates=[predicate for _, predicate, _ in wanted],
        objects=[object_ for _, _, object_ in wanted],
    )
    return await _as_shown(snapshot, rows, exclusive)


async def _as_shown(snapshot: Snapshot, rows: Sequence[dict[str, Any]], exclusive: Exclusive) -> list[Fact]:
    if not rows:
        return []
    shown = await snapshot.components({row[side] for row in rows for side in ("subject_id", "object_id")})
    statements = await _statements(snapshot, rows, shown, exclusive)
    told = await _told(snapshot, {*(row["id"] for row in rows), *(one.fact_id for one in statements)}, shown)
    return _joined(rows, shown, _stretches(rows, shown, statements, told, exclusive), told, exclusive)


async def _told(
    snapshot: Snapshot, facts: Collection[UUID], shown: dict[UUID, Component]
) -> dict[UUID, list[End]]:
    """Ends that a model told, by fact, as long as what ended it is said of the same subject."""
    rows = await snapshot.rows(_TOLD, facts=list(facts))
    unknown = {row[side] for row in rows for side in ("subject_id", "by_subject_id")} - shown.keys()
    shown |= await snapshot.components(unknown)
    told: dict[UUID, list[End]] = {}
    for row in rows:
        if shown[row["subject_id"]].id == shown[row["by_subject_id"]].id:
            told.setdefault(row["fact_id"], []).append(End(at=row["invalid_at"], by=row["by_fact_id"]))
    return told


async def _statements(
    snapshot: Snapshot, rows: Sequence[dict[str, Any]], shown: dict[UUID, Component], exclusive: Exclusive
) -> list[Statement]:
    """Every visible statement that may end one of these; what its entities are shown as is added to `shown`."""
    of_subjects = [row for row in rows if row["predicate"] in exclusive.objects]
    of_objects = [row for row in rows if row["predicate"] in exclusive.subjects]
    if not of_subjects and not of_objects:
        return []
    found = await snapshot.rows(
        _STATEMENTS,
        subjects=list({one for row in of_subjects for one in shown[row["subject_id"]].members}),
        of_subjects=list({row["predicate"] for row in of_subjects}),
        objects=list({one for row in of_objects for one in shown[row["object_id"]].members}),
        of_objects=list({row["predicate"] for row in of_objects}),
    )
    unknown = {row[side] for row in found for side in ("subject_id", "object_id")} - shown.keys()
    shown |= await snapshot.components(unknown)
    return [_statement(row, shown) for row in found]


def _statement(row: Mapping[str, Any], shown: Mapping[UUID, Component]) -> Statement:
    return Statement(
        fact_id=row["id"],
        subject=shown[row["subject_id"]].id,
        predicate=row["predicate"],
        object=shown[row["object_id"]].id,
        said_at=row["said_at"],
        valid_at=row["valid_at"],
        invalid_at=row["invalid_at"],
        dated=row["dated"],
    )


def _stretches(
    rows: Sequence[dict[str, Any]],
    shown: Mapping[UUID, Component],
    statements: Sequence[Statement],
    told: Mapping[UUID, Sequence[End]],
    exclusive: Exclusive,
) -> dict[Statement, _Stretch]:
    said = {*statements, *(_statement(row, shown) for row in rows)}
    ordered = sorted(said, key=lambda one: (one.said_at, one.fact_id))
    ended = ends(ordered, exclusive=exclusive, told=told)
    begun = beginnings(ordered, ended, exclusive=exclusive)
    return dict(zip(ordered, zip(begun, ended, strict=True), strict=True))


def _joined(
    rows: Sequence[dict[str, Any]],
    shown: Mapping[UUID, Component],
    stretches: Mapping[Statement, _Stretch],
    told: Mapping[UUID, Sequence[End]],
    exclusive: Exclusive,
) -> list[Fact]:
    """One fact for the sources that say the same of the same stretch of time."""
    groups: dict[Any, list[tuple[dict[str, Any], Statement]]] = {}
    for row in rows:
        one = _statement(row, shown)
        _, end = stretches[one]
        since = None if row["predicate"] in exclusive else one.valid_at
        key = (one.subject, one.predicate, one.object, since, end.at if end else None)
        groups.setdefault(key, []).append((row, one))
    return [_fact(group, shown, stretches, told, exclusive) for group in groups.values()]


def _fact(
    group: Sequence[tuple[dict[str, Any], Statement]],
    shown: Mapping[UUID, Component],
    stretches: Mapping[Statement, _Stretch],
    told: Mapping[UUID, Sequence[End]],
    exclusive: Exclusive,
) -> Fact:
    newest_first = sorted(group, key=lambda pair: pair[0]["ingestion_seq"], reverse=True)
    row, _ = newest_first[0]
    begins = [since for _, one in group if (since := stretches[one][0]) is not None]
    _, end = stretches[group[0][1]]
    known = [since for _, one in group if (since := one.known_since) is not None]
    stated = [one.valid_at for _, one in group if one.valid_at is not None]
    is_exclusive = row["predicate"] in exclusive
    return Fact(
        id=row["id"],
        subject_id=shown[row["subject_id"]].id,
        predicate=row["predicate"],
        object_id=shown[row["object_id"]].id,
        object_named=any(one["object_named"] for one, _ in newest_first),
        subject=next((one["subject_name"] for one, _ in newest_first if one["subject_name"]), ""),
        object=row["object_text"],
        sentence=row["sentence"],
        valid_at=min(known if is_exclusive else stated, default=None),
        begins=min(begins, default=None),
        known_since=min(known, default=None),
        invalid_at=end.at if end else None,
        ended_by=end.by if end else None,
        exclusive=is_exclusive,
        told_by=frozenset(
            end.by for _, one in group for end in told.get(one.fact_id, ()) if end.by is not None
        ),
        sources=tuple(one for one, _ in newest_first),
    )
