"""Search: candidates from the indexes, fused, then read from the record in one snapshot, where visibility is decided."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from apex_mcp.batches import batches
from apex_mcp.errors import ApexError
from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import Candidate, IndexFilter
from apex_mcp.retrieval.fusion import ENTITY, MEANING, WORDS, Fused, fuse
from apex_mcp.retrieval.naming import possible_names
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.index_log import IndexUse
from apex_mcp.stores.record.reading import View
from apex_mcp.stores.record.state import state_of
from apex_mcp.stores.vectors.protocol import VectorIndex
from apex_mcp.wording import counted

# A store that takes longer is left out of the answer, which says so.
_STORE_SECONDS = 3.0
_MIN_PAGE = 30
_MAX_CANDIDATES = 2_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What is searched; the limit is the number of passages."""

    query: str
    where: IndexFilter
    limit: int
    entity: str | None = None
    known_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Found:
    """The passages of an answer as rows of the record, each with its score, and what the answer lacks."""

    revision: int = 0
    passages: list[tuple[Fused, dict[str, Any]]] = field(default_factory=list[tuple[Fused, dict[str, Any]]])
    degraded: list[str] = field(default_factory=list[str])


class Searcher:
    """Searches one record and its index.

    Args:
        record: PostgreSQL.
        index: the vector index and its keeper.
        embedder: for the question's vector, or None.
    """

    def __init__(self, record: Record, index: IndexKeeper, embedder: Embedder | None) -> None:
        self._record = record
        self._index = index
        self._embedder = embedder

    async def search(self, request: SearchRequest) -> Found:
        """The best visible passages.

        Raises:
            Unavailable: the record does not answer. A missing index only degrades the answer.
        """
        found, undisturbed = await self._once(request)
        if not undisturbed:
            # What was current in its snapshot may have been past in the index already.
            found, _ = await self._once(request, with_past=True)
        return found

    async def _once(self, request: SearchRequest, *, with_past: bool = False) -> tuple[Found, bool]:
        """An answer, and whether nothing was committed to the namespace meanwhile, or that made no difference."""
        found = Found()
        vector = await self._question_vector(request, found)
        async with self._snapshot(request, found) as (view, vectors):
            found.revision = view.revision
            if lack := view.pruned(request.known_at):
                found.degraded.append(lack)
            lacks = self._index.lacks(view.index)
            with_past = with_past or view.past
            where = replace(request.where, revision=view.revision) if with_past else request.where
            await self._collect(view, vectors, request, where, vector, found)
        now = await state_of(self._record.database, request.where.namespace)
        # A rebuild that ended meanwhile may have hidden passages at the beginning, and one that began, at the end.
        if lacks := lacks or self._index.lacked_between(view.index, now.index):
            found.degraded.append(lacks)
        if vector is not None and self._index.meaning.owed:
            without = counted(self._index.meaning.owed, "passage")
            found.degraded.append(f"{without} without vectors yet: found by words only")
        return found, with_past or now.revision == view.revision

    @asynccontextmanager
    async def _snapshot(
        self, request: SearchRequest, found: Found
    ) -> AsyncGenerator[tuple[View, VectorIndex | None]]:
        """A snapshot and the index that it names, or None.

        An index that is in use since a moment is opened between two snapshots: that takes connections of the record, and
        searches that waited for it with one in hand would leave none.
        """
        names: IndexUse | None = None
        while True:
            async with self._record.reader.view(request.where.namespace, known_at=request.known_at) as view:
                if view.index.same(self._index.use):
                    yield view, self._index.vectors
                    return
                if names is not None and names.same(view.index):
                    yield view, None
                    return
                names = view.index
            await self._within(self._index.follow(names), "the vector index", found)

    async def _collect(
        self,
        view: View,
        vectors: VectorIndex | None,
        request: SearchRequest,
        where: IndexFilter,
        vector: Sequence[float] | None,
        found: Found,
    ) -> None:
        """Fetch candidates in growing pages until enough of them are visible, and fuse those of all pages."""
        about = await self._chunks_naming(view, request.entity) if request.entity else None
        allowed = {one.chunk_id for one in about} if about is not None else None
        proposals: dict[str, list[Candidate]] = {ENTITY: about} if about is not None else {}
        rows: dict[UUID, dict[str, Any]] = {}
        asked: set[UUID] = set()
        offset, page = 0, max(_MIN_PAGE, 3 * request.limit)
        if self._embedder is None or self._embedder.name != self._index.embedder_name:
            vector = None
        while offset < _MAX_CANDIDATES:
            pages = self._page(vectors, request.query, vector, where, page, offset, found)
            if offset == 0 and about is None and not _narrow(where):
                fresh, proposals[ENTITY] = await asyncio.gather(pages, self._named(view, request.query))
            else:
                fresh = await pages
            for name, candidates in fresh.items():
                proposals.setdefault(name, []).extend(candidates)
            fused = [one for one in fuse(proposals) if allowed is None or one.chunk_id in allowed]
            found.passages = await self._visible(view, fused, request.limit, rows, asked)
            if len(found.passages) >= request.limit or all(len(one) < page for one in fresh.values()):
                break
            offset, page = offset + page, page * 2

    async def _visible(
        self,
        view: View,
        fused: Sequence[Fused],
        limit: int,
        rows: dict[UUID, dict[str, Any]],
        asked: set[UUID],
    ) -> list[tuple[Fused, dict[str, Any]]]:
        """The first `limit` visible candidates; reads no more of them than that takes."""
        visible: list[tuple[Fused, dict[str, Any]]] = []
        for some in batches(fused, limit):
            wanted = [one.chunk_id for one in some if one.chunk_id not in asked]
            if wanted:
                asked.update(wanted)
                rows |= await view.hydrate(wanted)
            visible += [(one, rows[one.chunk_id]) for one in some if one.chunk_id in rows]
            if len(visible) >= limit:
                break
        return visible[:limit]

    async def _question_vector(self, request: SearchRequest, found: Found) -> list[float] | None:
        embedder = self._embedder
        if embedder is None:
            return None
        vector: list[float] | None = None
        if self._index.meaning.lacking() is not None:
            # It may be mended by an index that another process has just made.
            now = await state_of(self._record.database, request.where.namespace)
            await self._within(self._index.follow(now.index), "the vector index", found)
        lacks = self._index.meaning.lacking()
        if lacks is None:
            vector = await self._within(
                embedder.embed_query(request.query), "search is by words only: the embedder", found
            )
            # An endpoint that was just asked for the first time shows only now what it gives.
            lacks = self._index.meaning.lacking() if vector is not None else None
        if lacks is not None:
            found.degraded.append(f"search is by words only: {lacks}")
            return None
        return vector

    async def _page(
        self,
        vectors: VectorIndex | None,
        query: str,
        vector: Sequence[float] | None,
        where: IndexFilter,
        page: int,
        offset: int,
        found: Found,
    ) -> dict[str, list[Candidate]]:
        """The next candidates of the vector index, by words and by meaning."""
        if vectors is None:
            return {}
        asked: dict[str, Awaitable[list[Candidate] | None]] = {
            WORDS: self._within(
                vectors.search_words(query, where, limit=page, offset=offset),
                "words: the vector index",
                found,
            )
        }
        if vector is not None:
            asked[MEANING] = self._within(
                vectors.search_dense(vector, where, limit=page, offset=offset),
                "meaning: the vector index",
                found,
            )
        answers = await asyncio.gather(*asked.values())
        return {name: answer for name, answer in zip(asked, answers, strict=True) if answer is not None}

    async def _named(self, view: View, query: str) -> list[Candidate]:
        """Passages that name what the question names."""
        entities = await view.known_entities(possible_names(query))
        named = await view.chunks_naming(entities, limit=_MIN_PAGE) if entities else []
        return [Candidate(chunk_id=chunk_id, score=float(number)) for chunk_id, number in named]

    async def _chunks_naming(self, view: View, entity: str) -> list[Candidate]:
        """Passages that name the entity that the search is about."""
        rows = await view.find_entities(query=entity, entity_id=None, type_=None, limit=5)
        named = await view.chunks_naming([row["id"] for row in rows], limit=_MAX_CANDIDATES)
        return [Candidate(chunk_id=chunk_id, score=1.0) for chunk_id, _ in named]

    async def _within(self, work: Awaitable[T], what: str, found: Found) -> T | None:
        """The answer of a store, or None with a note if it is down or too slow.

        Args:
            work: asks it.
            what: what the answer lacks without it, and its name.
            found: where the note goes.
        """
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                return await work
        except (ApexError, TimeoutError):
            note = f"{what} did not answer"
            if note not in found.degraded:
                found.degraded.append(note)
            return None


def _narrow(where: IndexFilter) -> bool:
    """Whether the filter asks for more than a namespace; entities are looked up in the record without these filters."""
    return bool(
        where.source_types
        or where.media_types
        or where.document_ids
        or where.after
        or where.before
        or where.metadata
    )
