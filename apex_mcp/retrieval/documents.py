"""Reading documents: a part of the text, a page, or a passage shown in its place."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apex_mcp import ids
from apex_mcp.errors import InputError, NotFound
from apex_mcp.presenting import present_source
from apex_mcp.stores.record.reading import View
from apex_mcp.views import DocumentView, VersionView


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRequest:
    """Which document (by one of id, key and passage), which version, and which part of it."""

    document_id: UUID | None
    key: str | None
    chunk_id: UUID | None
    version: int | None
    start: int
    length: int
    page: int | None


async def read_document(view: View, request: DocumentRequest) -> DocumentView:
    """The asked part of a document.

    Raises:
        InputError: not exactly one of id, key and passage is given.
        NotFound: there is no such document, version, passage or page.
    """
    if sum(value is not None for value in (request.document_id, request.key, request.chunk_id)) != 1:
        raise InputError(
            "give one of `document_id`, `key` and `chunk_id`", next_step="search and list_memories show ids"
        )
    chunk = await _chunk(view, request.chunk_id) if request.chunk_id else None
    document_id = (
        chunk["document_id"]
        if chunk
        else request.document_id or ids.document_id(view.namespace, request.key or "")
    )
    row = await view.document(document_id, chunk["number"] if chunk else request.version)
    if row is None and request.version and await view.had(document_id, request.version):
        raise NotFound(
            f"version {request.version} of the document was pruned: replaced versions are kept for APEX_KEEP_PAST_DAYS",
            next_step="get_document without `version` gives the current one, and lists those that are kept",
        )
    if row is None:
        raise NotFound(
            f"there is no such {'version of the ' if request.version else ''}document in the namespace {view.namespace}",
            next_step="list_memories shows what is there; get_document without `version` gives the current one",
        )
    start, end = _extent(row, request, chunk)
    text = await view.text(row["version_id"], start, end - start)
    end = start + len(text)
    return DocumentView(
        document_id=document_id,
        namespace=view.namespace,
        key=row["key"],
        source=present_source(row),
        text=text,
        start=start,
        end=end,
        length=row["length"],
        next_start=end if end < row["length"] else None,
        passage_start=chunk["start_offset"] - start if chunk else None,
        passage_end=chunk["end_offset"] - start if chunk else None,
        page=next(
            (
                page[0]
                for page in row["pages"]
                if page[1] <= (chunk["start_offset"] if chunk else start) < page[2]
            ),
            None,
        ),
        pages=row["page_count"],
        heading_path=chunk["heading_path"] if chunk else _heading_path(row["headings"], start),
        metadata=row["metadata"],
        warnings=row["warnings"],
        versions=[
            VersionView(
                version=one["number"],
                accepted_at=one["accepted_at"],
                current=one["current"],
                chunks=one["chunk_count"],
            )
            for one in await view.versions(document_id)
        ],
    )


async def _chunk(view: View, chunk_id: UUID) -> dict[str, Any]:
    chunk = await view.chunk(chunk_id)
    if chunk is None:
        raise NotFound(
            f"no passage has the id {chunk_id} in the namespace {view.namespace}",
            next_step="search again: passages of a new version have new ids",
        )
    return chunk


def _extent(row: dict[str, Any], request: DocumentRequest, chunk: dict[str, Any] | None) -> tuple[int, int]:
    """Offsets of the part to show: a passage stands in the middle of its part."""
    if chunk:
        spare = max(0, request.length - (chunk["end_offset"] - chunk["start_offset"]))
        start = max(0, chunk["start_offset"] - spare // 2)
        return start, max(start + request.length, chunk["end_offset"])
    if request.page is not None:
        for number, start, end in row["pages"]:
            if number == request.page:
                return start, min(end, start + request.length)
        raise NotFound(
            f"the document has no page {request.page}",
            next_step=f"it has {row['page_count']} pages"
            if row["page_count"]
            else "it has no pages; use `start`",
        )
    if request.start and request.start >= row["length"]:
        raise InputError(f"the text ends at {row['length']}", next_step="choose a smaller `start`")
    return request.start, request.start + request.length


def _heading_path(headings: list[list[Any]], offset: int) -> list[str]:
    path: list[tuple[int, str]] = []
    for level, title, start, _ in headings:
        if start > offset:
            break
        path = [(above, name) for above, name in path if above < level] + [(level, title)]
    return [name for _, name in path]
