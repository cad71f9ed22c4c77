"""Finding and reading: passages, documents, and what is there."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from apex_mcp.caller import Caller
from apex_mcp.errors import InputError
from apex_mcp.ingestion.accepting import check_namespace
from apex_mcp.ingestion.decoding import clean_text
from apex_mcp.ingestion.detection import media_type_named
from apex_mcp.models import (
    IndexFilter,
)
from apex_mcp.operations.base import Operations, aware
from apex_mcp.paging import checked_limit, from_cursor, to_cursor
from apex_mcp.presenting import present_hit, present_item
from apex_mcp.retrieval.documents import DocumentRequest, read_document
from apex_mcp.retrieval.search import SearchRequest
from apex_mcp.views import (
    DocumentView,
    MemoryList,
    SearchView,
)

_MAX_QUERY_CHARS = 10_000
_MAX_LENGTH = 100_000


class Finding(Operations):
    """Reads; each stands on one snapshot of the record."""

    async def search(
        self,
        caller: Caller,
        *,
        query: str,
        namespace: str | None = None,
        limit: int = 10,
        source_types: Sequence[str] = (),
        media_types: Sequence[str] = (),
        document_ids: Sequence[UUID] = (),
        after: datetime | None = None,
        before: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        entity: str | None = None,
        as_of: datetime | None = None,
        known_at: datetime | None = None,
    ) -> SearchView:
        """The passages that answer a question best. `as_of` leaves out documents dated later than that time.

        Raises:
            InputError: an argument is not valid.
            Unavailable: the record does not answer.
        """
        query = clean_text(query).strip()
        if not query or len(query) > _MAX_QUERY_CHARS:
            raise InputError(
                f"a query has 1 to {_MAX_QUERY_CHARS} characters",
                next_step="ask a question, or use list_memories to see what is there",
            )
        ends = [aware(time_) for time_ in (before, as_of) if time_ is not None]
        where = IndexFilter(
            namespace=check_namespace(namespace or caller.namespace),
            source_types=tuple(source_types),
            media_types=tuple(dict.fromkeys(media_type_named(one).value for one in media_types)),
            document_ids=tuple(document_ids),
            after=aware(after),
            before=min(end for end in ends if end is not None) if ends else None,
            metadata=_metadata_filter(metadata),
        )
        request = SearchRequest(
            query=query,
            where=where,
            limit=checked_limit(limit),
            entity=entity or None,
            known_at=aware(known_at),
        )
        if self._answers is None or request.known_at is not None:
            return await self._search(request)
        return await self._answers.search(where.namespace, request, lambda: self._search(request))

    async def _search(self, request: SearchRequest) -> SearchView:
        found = await self._searcher.search(request)
        return SearchView(
            query=request.query,
            namespace=request.where.namespace,
            hits=[present_hit(fused, row) for fused, row in found.passages],
            revision=found.revision,
            degraded=found.degraded,
        )

    async def get_document(
        self,
        caller: Caller,
        *,
        document_id: UUID | None = None,
        key: str | None = None,
        chunk_id: UUID | None = None,
        version: int | None = None,
        start: int = 0,
        length: int = 8000,
        page: int | None = None,
        namespace: str | None = None,
    ) -> DocumentView:
        """A document's text, or the surroundings of a passage (`chunk_id`), or one page of it.

        Raises:
            InputError: an argument is not valid.
            NotFound: there is no such document, version, passage or page.
        """
        name = check_namespace(namespace or caller.namespace)
        if not 1 <= length <= _MAX_LENGTH or start < 0:
            raise InputError(
                f"`length` is 1 to {_MAX_LENGTH}, `start` 0 or more", next_step="read long documents in parts"
            )
        request = DocumentRequest(
            document_id=document_id,
            key=key,
            chunk_id=chunk_id,
            version=version,
            start=start,
            length=length,
            page=page,
        )
        if self._answers is None:
            return await self._read(name, request)
        return await self._answers.document(name, request, lambda: self._read(name, request))

    async def _read(self, namespace: str, request: DocumentRequest) -> DocumentView:
        async with self._record.reader.view(namespace) as view:
            return await read_document(view, request)

    async def list_memories(
        self,
        caller: Caller,
        *,
        namespace: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
        source_types: Sequence[str] = (),
    ) -> MemoryList:
        """What is in a namespace, newest first."""
        name, limit, before = (
            check_namespace(namespace or caller.namespace),
            checked_limit(limit),
            from_cursor(cursor),
        )
        async with self._record.reader.view(name) as view:
            rows = await view.list_documents(source_types=source_types, limit=limit, before=before)
            counts = await view.counts()
        return MemoryList(
            namespace=name,
            items=[present_item(row) for row in rows],
            total=counts["documents"],
            next_cursor=to_cursor(rows[-1]["ingestion_seq"]) if len(rows) == limit else None,
        )


def _metadata_filter(metadata: dict[str, Any] | None) -> dict[str, tuple[str | int | float | bool, ...]]:
    wanted: dict[str, tuple[str | int | float | bool, ...]] = {}
    for name, value in (metadata or {}).items():
        values = cast("list[Any]", value) if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str | int | float | bool) for one in values):
            raise InputError(
                "a metadata filter is a value or a list of values (strings, numbers, booleans) for each field",
                next_step='for example {"project": "apollo", "year": [2025, 2026]}',
            )
        wanted[name] = tuple(values)
    return wanted
