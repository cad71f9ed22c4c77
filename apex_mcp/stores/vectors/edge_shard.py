"""One Qdrant Edge shard: how points, filters and rankings look to the engine. Every call holds Python's lock.

Nothing is built or optimised here: see `edge_build.py`. There is no write-ahead log, because the record is one: after a
crash a shard holds what was flushed, and the record replays the rest. Everything is mapped from disk on demand
(`Memory.Cold`), which makes a shard of 100,000 points load in a tenth of a second into 25 MB.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from uuid import UUID

from qdrant_edge import (
    CountRequest,
    DatetimeIndexParams,
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    HasIdCondition,
    HasVectorCondition,
    HnswIndexConfig,
    IdfParams,
    IntegerIndexParams,
    KeywordIndexParams,
    MatchAny,
    Memory,
    Modifier,
    Point,
    Query,
    QueryRequest,
    RangeDateTime,
    RangeFloat,
    ScrollRequest,
    SearchParams,
    SparseVector,
    UpdateOperation,
)

from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement
from apex_mcp.stores.vectors import layout
from apex_mcp.stores.vectors.bm25 import embed_passage, embed_query
from apex_mcp.stores.vectors.edge_probe import broken_index, has_words
from apex_mcp.stores.vectors.layout import DENSE, HNSW_EF, WORDS
from apex_mcp.stores.vectors.protocol import MAX_DEPTH

# Few fields, because each costs nine more waits for the disk in every flush. The graph of the dense vectors is linked
# within each value of `scope`.
_INDEXES = {
    "scope": KeywordIndexParams(is_tenant=True, memory=Memory.Cold),
    "tags": KeywordIndexParams(enable_hnsw=False, memory=Memory.Cold),
    "time": DatetimeIndexParams(enable_hnsw=False, memory=Memory.Cold),
    "from": IntegerIndexParams(lookup=False, range=True, enable_hnsw=False, memory=Memory.Cold),
    "to": IntegerIndexParams(lookup=False, range=True, enable_hnsw=False, memory=Memory.Cold),
}

# As the stubs spell it; they are no module at run time.
NamedVector = list[float] | SparseVector | list[list[float]]
Condition = FieldCondition | HasIdCondition | Filter


class Shard:
    """A shard on disk, opened. Not safe for several threads at once."""

    def __init__(self, engine: EdgeShard) -> None:
        self._engine = engine

    @classmethod
    def create(cls, folder: Path, dimension: int | None) -> "Shard":
        """Make an empty shard; without `dimension` it holds words only."""
        folder.mkdir(parents=True)
        engine = EdgeShard.create(str(folder), _config(dimension))
        for field, parameters in _INDEXES.items():
            engine.update(UpdateOperation.create_field_index(field, parameters))
        engine.flush()
        return cls(engine)

    @classmethod
    def load(cls, folder: Path) -> "Shard":
        """Open an existing shard."""
        return cls(EdgeShard.load(str(folder)))

    def add_dense(self, dimension: int) -> None:
        """Make room for dense vectors in a shard of words."""
        # A crash may have left room of another size, which the shard's state doesn't tell.
        self._engine.update(UpdateOperation.delete_vector_name(DENSE))
        self._engine.update(UpdateOperation.create_dense_vector(DENSE, dimension, Distance.Cosine))
        self._engine.flush()

    def upsert(self, points: Sequence[Point]) -> None:
        self._engine.update(UpdateOperation.upsert_points(list(points)))

    def retire(self, ids: Sequence[PointId], retirement: Retirement) -> None:
        # By filter, because an id that is gone meanwhile would be an error.
        these: Condition = HasIdCondition(set(ids))
        known = self._engine.retrieve(list(ids), with_payload=["namespace"], with_vector=False)
        if not known:
            return
        # A version is of one namespace.
        payload = layout.past_payload((known[0].payload or {})["namespace"], retirement)
        self._engine.update(UpdateOperation.set_payload_by_filter(Filter(must=[these]), payload))

    def delete(self, ids: Sequence[PointId]) -> None:
        self._engine.update(UpdateOperation.delete_points(list(ids)))

    def page(
        self, version_ids: Sequence[UUID], *, limit: int, start: PointId | None = None
    ) -> tuple[list[PointId], PointId | None]:
        """Ids of these versions' points, and where the next page starts."""
        request = ScrollRequest(
            filter=Filter(must=[_condition(layout.of_versions(version_ids))]),
            limit=limit,
            offset=start,
            with_payload=False,
            with_vector=False,
        )
        records, following = self._engine.scroll(request)
        return [_point_id(one.id) for one in records], None if following is None else _point_id(following)

    def inventory_page(
        self, version_ids: Sequence[UUID] | None, *, dense: bool, limit: int, start: PointId | None = None
    ) -> tuple[Counter[Holding | ForeignPoint], PointId | None]:
        """How the points of a page are held, of all or of these versions, and where the next page starts."""
        these = (
            Filter(must=[_condition(layout.of_versions(version_ids))]) if version_ids is not None else None
        )
        records, following = self._engine.scroll(
            ScrollRequest(
                filter=these, limit=limit, offset=start, with_payload=list(layout.HELD), with_vector=False
            )
        )
        payloads = {_point_id(record.id): record.payload for record in records}
        with_vectors = self._which(payloads, HasVectorCondition(DENSE)) if dense else set[PointId]()
        found = self._which(payloads, HasVectorCondition(WORDS), _condition(layout.scopes(payloads.values())))
        held = Counter(
            layout.holding(id_, payload, dense=id_ in with_vectors, found=id_ in found)
            for id_, payload in payloads.items()
        )
        return held, None if following is None else _point_id(following)

    def _which(
        self, ids: Collection[PointId], *conditions: HasVectorCondition | FieldCondition
    ) -> set[PointId]:
        """Which of these points fulfil all conditions, by the indexes that searches use."""
        if not ids:
            return set()
        all_of = Filter(must=[HasIdCondition(set(ids)), *conditions])
        found, _ = self._engine.scroll(
            ScrollRequest(filter=all_of, limit=len(ids), with_payload=False, with_vector=False)
        )
        return {_point_id(record.id) for record in found}

    def take(self, other: "Shard", ids: Collection[PointId]) -> None:
        """Make these points what they are in the other shard, absence included."""
        records = other._engine.retrieve(list(ids), with_payload=True, with_vector=True)
        present = {_point_id(record.id) for record in records}
        self.upsert([Point(record.id, record.vector or {}, record.payload) for record in records])
        self.delete([missing for missing in ids if missing not in present])

    def search_words(self, query: str, where: IndexFilter, *, limit: int, offset: int) -> list[Candidate]:
        terms = embed_query(query)
        # Statistics come from the scope alone: not from other namespaces, nor from retired text.
        parameters = SearchParams(idf=IdfParams(corpus=_scope(where)))
        return self._top(terms, WORDS, where, parameters, limit, offset) if terms.indices else []

    def search_dense(
        self, vector: Sequence[float], where: IndexFilter, *, limit: int, offset: int
    ) -> list[Candidate]:
        depth = min(limit + offset, MAX_DEPTH)
        return self._top(list(vector), DENSE, where, SearchParams(hnsw_ef=max(HNSW_EF, depth)), limit, offset)

    def count(self, namespace: str | None = None, version_id: UUID | None = None) -> int:
        conditions: list[Condition] = []
        if namespace is not None:
            both = layout.OneOf("scope", (layout.current(namespace), layout.past(namespace)))
            conditions.append(_condition(both))
        if version_id is not None:
            conditions.append(_condition(layout.of_versions([version_id])))
        return self._engine.count(CountRequest(exact=True, filter=Filter(must=list(conditions))))

    def size(self) -> int:
        """Number of points, without counting them."""
        return self._engine.info().points_count

    def has_words(self) -> bool:
        """Whether any point has words."""
        return has_words(self._engine)

    def broken_index(self, *, words: bool) -> str | None:
        """An index that has lost what it holds, such as words where some had any; None where each finds some."""
        return broken_index(self._engine, list(_INDEXES), words=words)

    def flush(self) -> None:
        self._engine.flush()

    def close(self) -> None:
        self._engine.close()

    def _top(
        self,
        vector: list[float] | SparseVector,
        using: str,
        where: IndexFilter,
        parameters: SearchParams,
        limit: int,
        offset: int,
    ) -> list[Candidate]:
        """The page from `offset` of candidates by score, then id."""
        end = min(limit + offset, MAX_DEPTH)
        depth = end + 1
        while True:
            request = QueryRequest(
                limit=depth,
                query=Query.Nearest(vector, using),
                filter=_filter(where),
                params=parameters,
                with_payload=False,
                with_vector=False,
            )
            hits = self._engine.query(request)
            deeper = layout.next_depth([hit.score for hit in hits], depth, end)
            if deeper is None:
                return layout.page(((hit.score, _uuid(hit.id)) for hit in hits), offset, end)
            depth = deeper


def build(folder: Path, dimension: int | None) -> None:
    """Build the graph of the dense vectors and compact everything: takes minutes, in a process of its own."""
    engine = EdgeShard.load(
        str(folder),
        _config(
            dimension,
            HnswIndexConfig(
                m=16, ef_construct=100, full_scan_threshold=10_000, max_indexing_threads=1, memory=Memory.Cold
            ),
        ),
    )
    engine.optimize()
    engine.flush()
    engine.close()


def point(source: IndexPoint) -> Point:
    """A chunk as the engine takes it."""
    vectors: dict[str, NamedVector] = {}
    words = embed_passage(source.text)
    if words.indices:
        vectors[WORDS] = words
    if source.dense is not None:
        vectors[DENSE] = source.dense
    return Point(source.id, vectors, layout.payload(source))


def _config(dimension: int | None, hnsw: HnswIndexConfig | None = None) -> EdgeConfig:
    dense = EdgeVectorParams(size=dimension or 0, distance=Distance.Cosine, memory=Memory.Cold)
    return EdgeConfig(
        vectors={DENSE: dense} if dimension else None,
        sparse_vectors={WORDS: EdgeSparseVectorParams(modifier=Modifier.Idf, memory=Memory.Cold)},
        hnsw_config=hnsw,
        # One segment, indexed from 1 MB on: it counts only where `build` runs.
        optimizers=EdgeOptimizersConfig(
            indexing_threshold=1_000, default_segment_number=1, max_segment_size=1 << 40
        ),
        payload_memory=Memory.Cold,
        id_tracker_memory=Memory.Cold,
        wal_enabled=False,
    )


def _filter(where: IndexFilter) -> Filter:
    narrowing = [_condition(one) for one in layout.narrowing(where)]
    return Filter(must=[_scope(where), *narrowing]) if narrowing else _scope(where)


def _scope(where: IndexFilter) -> Filter:
    now, *then = [Filter(must=[_condition(one) for one in all_of]) for all_of in layout.scope(where)]
    return Filter(should=[now, *then]) if then else now


def _condition(condition: layout.Condition) -> FieldCondition:
    match condition:
        case layout.OneOf(field, values):
            return FieldCondition(field, match=MatchAny(list(values)))
        case layout.Numbers(field, lte, gt):
            return FieldCondition(field, range=RangeFloat(lte=lte, gt=gt))
        case layout.Times(field, gte, lt):
            times = RangeDateTime(
                gte=gte.isoformat() if gte else None,
                lt=lt.isoformat() if lt else None,
            )
            return FieldCondition(field, range=times)


def _point_id(engine_id: int | UUID | str) -> PointId:
    assert not isinstance(engine_id, str)  # the engine has none of these
    return engine_id


def _uuid(engine_id: int | UUID | str) -> UUID:
    assert isinstance(engine_id, UUID)  # all our ids are
    return engine_id
