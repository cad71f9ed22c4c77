"""The vector index on a Qdrant server: one collection, which any number of processes read and write.

A point that is no chunk's carries the record's id, the embedder's name and the position up to which the collection is
complete; no filter on a namespace matches it, and counts leave it out. Every write waits until it is applied, so `flush`
only notes the position.

Statistics of words come from the scope alone (a corpus filter, which Qdrant has since 1.19). In a collection of several
shards each shard takes them from its own part of the scope, which differs little where there is much text.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

from qdrant_client import AsyncQdrantClient, models

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.errors import Invariant, Unavailable
from apex_mcp.models import Candidate, ForeignPoint, Holding, IndexFilter, IndexPoint, PointId, Retirement
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.vectors import layout
from apex_mcp.stores.vectors.bm25 import embed_passage, embed_query
from apex_mcp.stores.vectors.layout import DENSE, HNSW_EF, WORDS
from apex_mcp.stores.vectors.protocol import MAX_DEPTH
from apex_mcp.stores.vectors.qdrant_errors import is_missing, soon, translated, unavailable

# Some megabytes of a request at 1,536 dimensions; a server takes 32.
_UPSERT_BATCH = 100
_VERSIONS_BATCH = 200
_SCROLL_PAGE = 1_000
_RETIRING_AT_ONCE = 8
_IDENTITY = str(ids.APEX)

_INDEXES: dict[str, models.PayloadSchemaParams] = {
    "scope": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True, on_disk=True),
    # Of the point that is no chunk's. A server may refuse to filter by what has no index.
    "made": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, on_disk=True, enable_hnsw=False),
    "tags": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, on_disk=True, enable_hnsw=False),
    "time": models.DatetimeIndexParams(
        type=models.DatetimeIndexType.DATETIME, on_disk=True, enable_hnsw=False
    ),
    **{
        field: models.IntegerIndexParams(
            type=models.IntegerIndexType.INTEGER, lookup=False, range=True, on_disk=True, enable_hnsw=False
        )
        for field in ("from", "to")
    },
}

T = TypeVar("T")


class QdrantVectorIndex:
    """A `VectorIndex` in one collection. Made by `open`.

    Attributes:
        dimension: of the dense vectors; None while there are words only.
        made: given to the collection when it was made; another one has another.
        generation: how often the server was seen to have lost what it had.
    """

    def __init__(
        self,
        client: AsyncQdrantClient,
        collection: str,
        *,
        record_id: UUID,
        embedder: str | None,
        dimension: int | None,
        breaker: CircuitBreaker | None,
        on_lost: Callable[[], None] | None,
        on_empty: Callable[[], Awaitable[None]] | None,
    ) -> None:
        self.dimension: int | None = None
        self.made: str | None = None
        self.generation = 0
        self._client = client
        self._collection = collection
        self._record_id = record_id
        self._wanted = embedder, dimension
        self._breaker = breaker
        self._on_lost = on_lost
        self._on_empty = on_empty
        self._position: str | None = None
        self._filled: str | None = None

    @classmethod
    async def open(
        cls,
        client: AsyncQdrantClient,
        collection: str,
        *,
        record_id: UUID,
        embedder: str | None,
        dimension: int | None,
        breaker: CircuitBreaker | None = None,
        on_lost: Callable[[], None] | None = None,
        on_empty: Callable[[], Awaitable[None]] | None = None,
    ) -> "QdrantVectorIndex":
        """Open a collection, or make it. One of another record, or with other vectors, starts again empty.

        Args:
            client: of the server; whoever made it closes it.
            collection: its name.
            record_id: the record that it is an index of.
            embedder: whose vectors it is given; None for words only, which leaves vectors that are there alone.
            dimension: of these vectors; None while it is not known, see `enable_dense`.
            breaker: around every call.
            on_lost: called when `generation` has risen.
            on_empty: called before an empty collection is made; if it fails, none is.

        Raises:
            Unavailable: the server does not answer.
            Rejected: it does not let us in.
        """
        index = cls(
            client,
            collection,
            record_id=record_id,
            embedder=embedder,
            dimension=dimension,
            breaker=breaker,
            on_lost=on_lost,
            on_empty=on_empty,
        )
        if not await index._fits():
            await index._create(instead=True)
        if embedder is not None and dimension is not None:
            await index.enable_dense(embedder, dimension)
        return index

    async def ready(self) -> int:
        """Look what the server has; make the collection anew if it is gone. The generation then.

        Raises:
            Unavailable: the server does not answer.
        """
        known, made = self._position, self.made
        try:
            payload = await self._identity()
        except Unavailable as error:
            if not is_missing(error):
                raise
            payload = None
        if payload is None:
            await self._create()
            self._lost()
        else:
            self._take(payload)
            if self.made != made or (
                known is not None and (self._position is None or int(self._position) < int(known))
            ):
                self._lost()
        return self.generation

    async def damage(self) -> str | None:
        """None: the files are the server's."""
        return None

    async def enable_dense(self, embedder: str, dimension: int) -> None:
        """Take this embedder's vectors from now on, in an index that has words only; again changes nothing.

        Raises:
            Invariant: it has vectors of another embedder.
        """
        present = await self._dense_dimension()
        if present is None:
            config = models.DenseVectorNameConfig(
                dense=models.DenseVectorConfig(size=dimension, distance=models.Distance.COSINE)
            )
            try:
                await self._asked(
                    lambda: self._client.create_vector_name(self._collection, DENSE, config, wait=True)
                )
            except Invariant:  # another process was quicker
                if await self._dense_dimension() is None:
                    raise
            await self._note({"embedder": embedder})
            present = await self._dense_dimension()
        stored = (await self._identity() or {}).get("embedder")
        if (stored, present) != (embedder, dimension):
            raise Invariant("the index holds the vectors of another embedder")
        self._wanted = embedder, dimension
        self.dimension = dimension

    def position(self) -> str | None:
        """How far the collection is complete, as last read or noted; None when the record must rebuild it."""
        return self._position

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Add or replace points, 100 at a time."""
        if any(one.dense is not None and len(one.dense) != self.dimension for one in points):
            raise Invariant("a vector does not have the index's dimension")
        for some in batches(points, _UPSERT_BATCH):
            ready = await asyncio.to_thread(_points, some)
            await self._asked(lambda ready=ready: self._client.upsert(self._collection, ready, wait=True))

    async def retire(self, retirements: Sequence[Retirement]) -> None:
        """Mark versions' points as current in their range of revisions only."""
        for some in batches(retirements, _RETIRING_AT_ONCE):
            await asyncio.gather(*map(self._retire, some))

    async def delete_versions(self, version_ids: Sequence[UUID]) -> None:
        """Remove every point of these versions."""
        for some in batches(version_ids, _VERSIONS_BATCH):
            these = _all(layout.of_versions(some))
            await self._asked(lambda these=these: self._client.delete(self._collection, these, wait=True))

    async def delete_points(self, point_ids: Sequence[PointId]) -> None:
        """Remove these points, whatever they are."""
        for some in batches(point_ids, _SCROLL_PAGE):
            these = models.PointIdsList(points=_sent(some))
            await self._asked(lambda these=these: self._client.delete(self._collection, these, wait=True))

    async def search_words(
        self, query: str, where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by BM25."""
        terms = embed_query(query)
        if not terms.indices:
            return []
        vector = models.SparseVector(indices=list(terms.indices), values=list(terms.values))
        # Statistics come from the scope alone: not from other namespaces, nor from retired text.
        parameters = models.SearchParams(idf=models.IdfCorpusParams(corpus=_scope(where)))
        return await self._top(vector, WORDS, where, lambda _: parameters, limit, offset)

    async def search_dense(
        self, vector: Sequence[float], where: IndexFilter, *, limit: int, offset: int = 0
    ) -> list[Candidate]:
        """Candidates by cosine; none while there are words only."""
        if self.dimension is None:
            return []
        if len(vector) != self.dimension:
            raise Invariant("a query's vector does not have the index's dimension")
        return await self._top(
            list(vector),
            DENSE,
            where,
            lambda depth: models.SearchParams(hnsw_ef=max(HNSW_EF, depth)),
            limit,
            offset,
        )

    async def count(self, *, namespace: str | None = None, version_id: UUID | None = None) -> int:
        """Number of points, retired ones included."""
        conditions: list[layout.Condition] = []
        if namespace is not None:
            conditions.append(layout.OneOf("scope", (layout.current(namespace), layout.past(namespace))))
        if version_id is not None:
            conditions.append(layout.of_versions([version_id]))
        chunks = models.Filter(
            must=[_condition(one) for one in conditions],
            must_not=[models.HasIdCondition(has_id=[_IDENTITY])],
        )
        counted = await self._asked(
            lambda: self._client.count(self._collection, count_filter=chunks, exact=True)
        )
        return counted.count

    async def version_ids(self) -> set[UUID]:
        """Every version that has a point."""
        return {one.version_id async for page in self.inventory() for one in page if isinstance(one, Holding)}

    async def inventory(
        self, version_ids: Sequence[UUID] | None = None
    ) -> AsyncGenerator[Mapping[Holding | ForeignPoint, int]]:
        """How many points are held how, of every version or of these, in pages."""
        for some in [None] if version_ids is None else batches(version_ids, _VERSIONS_BATCH):
            these = None if some is None else _all(layout.of_versions(some))
            following: Any = None
            while True:
                records, following = await self._asked(
                    lambda start=following, these=these: self._client.scroll(
                        self._collection,
                        scroll_filter=these,
                        limit=_SCROLL_PAGE,
                        offset=start,
                        with_payload=list(layout.HELD),
                    )
                )
                payloads = {_point_id(one.id): one.payload for one in records}
                payloads.pop(ids.APEX, None)
                dense: set[PointId] = set()
                if self.dimension is not None:
                    dense = await self._which(payloads, models.HasVectorCondition(has_vector=DENSE))
                found = await self._which(
                    payloads,
                    models.HasVectorCondition(has_vector=WORDS),
                    _condition(layout.scopes(payloads.values())),
                )
                yield Counter(
                    layout.holding(id_, payload, dense=id_ in dense, found=id_ in found)
                    for id_, payload in payloads.items()
                )
                if following is None:
                    break

    async def _which(
        self, ids: Collection[PointId], *conditions: models.HasVectorCondition | models.FieldCondition
    ) -> set[PointId]:
        """Which of these points fulfil all conditions, by the indexes that searches use."""
        if not ids:
            return set()
        all_of = models.Filter(must=[models.HasIdCondition(has_id=_sent(ids)), *conditions])
        found, _ = await self._asked(
            lambda: self._client.scroll(
                self._collection, scroll_filter=all_of, limit=len(ids), with_payload=False
            )
        )
        return {_point_id(one.id) for one in found}

    async def flush(self, position: str | None = None, *, generation: int | None = None) -> None:
        """Note how far the collection is complete: what was written stands already.

        Args:
            position: how far it goes.
            generation: in which everything up to there was written; None asks for no proof.

        Raises:
            Unavailable: something was lost since, so that the position would not be true.
        """
        if position is None or position == self._position:
            return
        if generation is not None and await self.ready() != generation:
            raise unavailable("lost what it had")
        await self._note({"position": position})
        self._position = position

    def filled(self, start: str) -> UUID | None:
        """The last version that was written of the filling that began at this position, as noted; None where nothing was."""
        return layout.read_filled(self._filled, start)

    async def note_filled(self, version_id: UUID, *, start: str, generation: int) -> None:
        """Note how far the filling that began at `start` has come, in the collection that was made as this one.

        Raises:
            Unavailable: something was lost since `generation`, so that it would not be true.
        """
        if self.generation != generation:
            raise unavailable("lost what it had")
        this = models.Filter(
            must=[
                models.HasIdCondition(has_id=[_IDENTITY]),
                models.FieldCondition(key="made", match=models.MatchValue(value=self.made or "")),
            ]
        )
        noted = {"filled": layout.filled(start, version_id)}
        await self._asked(lambda: self._client.set_payload(self._collection, noted, points=this, wait=True))
        self._filled = noted["filled"]

    async def maintain(self) -> bool:
        """The server builds its graphs by itself."""
        return False

    async def close(self) -> None:
        """Nothing: the client is another's."""

    async def abandon(self) -> None:
        """Nothing: the client is another's."""

    # --- the collection ----------------------------------------------------------------------------------------------

    async def _fits(self) -> bool:
        """Whether the collection is there, whole and this record's; reads what it holds."""
        try:
            payload = await self._identity()
            self.dimension = await self._dense_dimension()
        except Unavailable as error:
            if is_missing(error):
                return False
            raise
        if payload is None or payload.get("record") != str(self._record_id):
            return False
        self._take(payload)
        embedder, dimension = self._wanted
        if embedder is None or self.dimension is None:
            return True
        return payload.get("embedder") == embedder and dimension in (None, self.dimension)

    def _take(self, identity: dict[str, Any]) -> None:
        self._position, self.made = identity.get("position"), identity.get("made")
        self._filled = identity.get("filled")

    async def _create(self, *, instead: bool = False) -> None:
        """An empty collection; `instead` of one that is there. The identity comes last: without it none counts as made."""
        if self._on_empty is not None:
            await self._on_empty()
        if instead:
            await self._asked(lambda: self._client.delete_collection(self._collection))
        embedder, dimension = self._wanted
        dense: dict[str, models.VectorParams] = {}
        if dimension is not None:
            dense[DENSE] = models.VectorParams(size=dimension, distance=models.Distance.COSINE, on_disk=True)
        words = models.SparseVectorParams(
            modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=True)
        )
        name, client = self._collection, self._client
        if not await self._asked(lambda: client.collection_exists(name)):
            await self._asked(
                lambda: client.create_collection(
                    name, vectors_config=dense, sparse_vectors_config={WORDS: words}
                )
            )
        for field, parameters in _INDEXES.items():
            await self._asked(
                lambda field=field, parameters=parameters: client.create_payload_index(
                    name, field, field_schema=parameters, wait=True
                )
            )
        identity = {
            "record": str(self._record_id),
            "embedder": embedder,
            "position": None,
            "made": uuid4().hex,
        }
        point = models.PointStruct(id=_IDENTITY, vector={}, payload=identity)
        await self._asked(lambda: client.upsert(name, [point], wait=True))
        self._take(identity)
        self.dimension = await self._dense_dimension()

    async def _identity(self) -> dict[str, Any] | None:
        found = await self._asked(
            partial(soon, lambda: self._client.retrieve(self._collection, [_IDENTITY], with_payload=True))
        )
        return found[0].payload or {} if found else None

    async def _note(self, payload: dict[str, Any]) -> None:
        await self._asked(
            lambda: self._client.set_payload(self._collection, payload, points=[_IDENTITY], wait=True)
        )

    async def _dense_dimension(self) -> int | None:
        info = await self._asked(partial(soon, lambda: self._client.get_collection(self._collection)))
        vectors = info.config.params.vectors
        dense = vectors.get(DENSE) if isinstance(vectors, dict) else None
        return dense.size if dense is not None else None

    async def _retire(self, retirement: Retirement) -> None:
        these = _all(layout.of_versions([retirement.version_id]))
        known, _ = await self._asked(
            lambda: self._client.scroll(
                self._collection, scroll_filter=these, limit=1, with_payload=["namespace"]
            )
        )
        if not known:
            return
        # A version is of one namespace.
        payload = layout.past_payload((known[0].payload or {})["namespace"], retirement)
        await self._asked(
            lambda: self._client.set_payload(self._collection, payload, points=these, wait=True)
        )

    async def _top(
        self,
        vector: list[float] | models.SparseVector,
        using: str,
        where: IndexFilter,
        parameters: Callable[[int], models.SearchParams],
        limit: int,
        offset: int,
    ) -> list[Candidate]:
        """The page from `offset` of candidates by score, then id."""
        offset = max(offset, 0)
        end = min(limit + offset, MAX_DEPTH)
        if limit <= 0 or offset >= MAX_DEPTH:
            return []
        depth = end + 1
        while True:
            found = await self._asked(
                lambda depth=depth: self._client.query_points(
                    self._collection,
                    query=vector,
                    using=using,
                    query_filter=_filter(where),
                    search_params=parameters(depth),
                    limit=depth,
                    with_payload=False,
                )
            )
            hits = [(_steady(hit.score), UUID(str(hit.id))) for hit in found.points]
            deeper = layout.next_depth([score for score, _ in hits], depth, end)
            if deeper is None:
                return layout.page(hits, offset, end)
            depth = deeper

    def _lost(self) -> None:
        self.generation += 1
        if self._on_lost is not None:
            self._on_lost()

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The server's answer, with errors of ours."""
        if self._breaker is None:
            with translated():
                return await ask()
        with self._breaker.guard(), translated():
            return await ask()


def _sent(point_ids: Collection[PointId]) -> list[models.ExtendedPointId]:
    return [one if isinstance(one, int) else str(one) for one in point_ids]


def _point_id(sent: models.ExtendedPointId) -> PointId:
    return sent if isinstance(sent, int) else UUID(str(sent))


def _steady(score: float) -> float:
    """A score without its last digits, in which two answers to one question may differ."""
    return float(f"{score:.6g}")


def _points(sources: Sequence[IndexPoint]) -> list[models.PointStruct]:
    return [_point(one) for one in sources]


def _point(source: IndexPoint) -> models.PointStruct:
    """A chunk as the server takes it."""
    vectors: dict[str, Any] = {}
    words = embed_passage(source.text)
    if words.indices:
        vectors[WORDS] = models.SparseVector(indices=list(words.indices), values=list(words.values))
    if source.dense is not None:
        vectors[DENSE] = source.dense
    return models.PointStruct(id=str(source.id), vector=vectors, payload=layout.payload(source))


def _all(*conditions: layout.Condition) -> models.Filter:
    return models.Filter(must=[_condition(one) for one in conditions])


def _filter(where: IndexFilter) -> models.Filter:
    narrowing = [_condition(one) for one in layout.narrowing(where)]
    return models.Filter(must=[_scope(where), *narrowing]) if narrowing else _scope(where)


def _scope(where: IndexFilter) -> models.Filter:
    now, *then = [_all(*conditions) for conditions in layout.scope(where)]
    return models.Filter(should=[now, *then]) if then else now


def _condition(condition: layout.Condition) -> models.FieldCondition:
    match condition:
        case layout.OneOf(field, values):
            return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))
        case layout.Numbers(field, lte, gt):
            return models.FieldCondition(key=field, range=models.Range(lte=lte, gt=gt))
        case layout.Times(field, gte, lt):
            return models.FieldCondition(key=field, range=models.DatetimeRange(gte=gte, lt=lt))
