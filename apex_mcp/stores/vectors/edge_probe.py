"""Whether a shard that was just opened finds what it holds: a few points, asked for by each index that searches use.

Files whose contents are gone keep their lengths, and the engine takes them for empty. What is broken in part is for `verify`
to find; here an index counts as broken when it has none of the points that it should have, which no crash makes of a whole one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from qdrant_edge import (
    CountRequest,
    EdgeShard,
    FieldCondition,
    Filter,
    HasIdCondition,
    HasVectorCondition,
    IsEmptyCondition,
    MatchAny,
    Query,
    QueryRequest,
    RangeDateTime,
    RangeFloat,
    Record,
    ScrollRequest,
    SparseVector,
)

from apex_mcp.models import Holding
from apex_mcp.stores.vectors import layout
from apex_mcp.stores.vectors.layout import DENSE, WORDS

_SAMPLE = 20


def has_words(engine: EdgeShard) -> bool:
    """Whether any point has words."""
    these = Filter(must=[HasVectorCondition(WORDS)])
    return bool(engine.scroll(ScrollRequest(limit=1, filter=these, with_payload=False, with_vector=False))[0])


def broken_index(engine: EdgeShard, fields: Sequence[str], *, words: bool) -> str | None:
    """The first index that has none of the points that it should have; None where each has some.

    Args:
        engine: the shard.
        fields: that have an index.
        words: some points had words.

    Raises:
        BaseException: the engine's own, where points cannot even be read.
    """
    for field in fields:
        # A crash leaves the two apart for the last points written, which the record writes again.
        some = [
            one
            for one in _sample(engine, Filter(must_not=[IsEmptyCondition(field)]))
            if _is_ours(one) and (one.payload or {}).get(field) is not None
        ]
        if some and not _count(engine, some, field):
            return field
    if words and not has_words(engine):
        return WORDS
    return next((name for name in (WORDS, DENSE) if not _finds_vectors(engine, name)), None)


def _sample(engine: EdgeShard, where: Filter) -> list[Record]:
    return engine.scroll(ScrollRequest(limit=_SAMPLE, filter=where, with_payload=True, with_vector=True))[0]


def _is_ours(record: Record) -> bool:
    """Others write what they like."""
    return isinstance(layout.holding(UUID(int=0), record.payload, dense=False, found=False), Holding)


def _count(engine: EdgeShard, some: Sequence[Record], field: str) -> int:
    values = [(one.payload or {})[field] for one in some]
    both = Filter(must=[HasIdCondition({one.id for one in some}), _condition(field, values)])
    return engine.count(CountRequest(exact=True, filter=both))


def _condition(field: str, values: Sequence[Any]) -> FieldCondition:
    """What all points that have one of these values fulfil."""
    first = values[0]
    if isinstance(first, list):
        return FieldCondition(field, match=MatchAny(list(chain.from_iterable(values))))
    if isinstance(first, int):
        return FieldCondition(field, range=RangeFloat(gte=min(values), lte=max(values)))
    if field == "time":
        times = sorted(values, key=datetime.fromisoformat)  # in whatever time zones
        return FieldCondition(field, range=RangeDateTime(gte=times[0], lte=times[-1]))
    return FieldCondition(field, match=MatchAny(list(values)))


def _finds_vectors(engine: EdgeShard, name: str) -> bool:
    some = _sample(engine, Filter(must=[HasVectorCondition(name)]))
    if not some:
        return True
    vectors = [one.vector[name] for one in some if isinstance(one.vector, Mapping) and name in one.vector]
    if name == DENSE:
        return any(any(vector) for vector in vectors if isinstance(vector, list))
    terms = sorted({
        term for vector in vectors if isinstance(vector, SparseVector) for term in vector.indices
    })
    if not terms:
        return False
    query = Query.Nearest(SparseVector(terms, [1.0] * len(terms)), name)
    these = Filter(must=[HasIdCondition({one.id for one in some})])
    return bool(engine.query(QueryRequest(limit=1, query=query, filter=these)))
