"""What is known of an ingestion between its steps: in memory while one process runs them, in staging for large ones."""

import asyncio
import json
from collections import OrderedDict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from pydantic import TypeAdapter

from apex_mcp import faults, ids
from apex_mcp.ingestion.staging import Staging
from apex_mcp.models import Chunk, Extraction, IngestionRequest, ParsedDocument
from apex_mcp.stores.record.ingestions import Ingestion

RAW = "raw"
_PARSED = "parsed.json"
_EXTRACTION = "extraction.json"
_MAX_DRAFTS = 1024

Parsed = tuple[ParsedDocument, tuple[Chunk, ...]]
_parsed_adapter: TypeAdapter[Parsed] = TypeAdapter(Parsed)
_extraction_adapter: TypeAdapter[Extraction] = TypeAdapter(Extraction)
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Draft:
    """One ingestion on its way. Each part is there once its step has run, and can be made again from the parts before it."""

    ingestion: Ingestion
    request: IngestionRequest
    claim: UUID
    content_hash: str | None = None
    parsed: ParsedDocument | None = None
    chunks: tuple[Chunk, ...] = ()
    extraction: Extraction | None = None
    unchanged: bool = False
    embedder: str | None = None
    vectors: list[bytes] | None = None

    @property
    def id(self) -> UUID:
        return self.ingestion.id

    @property
    def version_id(self) -> UUID:
        return ids.version_id(self.ingestion.document_id, self.ingestion.id, self.claim)

    @property
    def document_time(self) -> datetime | None:
        """When the document is from: as the caller says, else as it says itself."""
        return self.request.document_time or (self.parsed.document_time if self.parsed else None)

    @property
    def given(self) -> dict[str, object]:
        return given_with(self.request)


def given_with(request: IngestionRequest) -> dict[str, object]:
    """What makes a version beside its content; part of the content hash."""
    return {
        "title": request.title,
        "document_time": request.document_time,
        "metadata": request.metadata,
        "entities": [asdict(one) for one in request.entities],
        "facts": [asdict(one) for one in request.facts],
    }


class Drafts:
    """Keeps drafts of running ingestions; the oldest make room, and are made again when they are needed."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._kept: OrderedDict[tuple[UUID, UUID], Draft] = OrderedDict()

    def get(self, ingestion_id: UUID, claim: UUID) -> Draft | None:
        """The draft of a run, if it is still here."""
        return self._kept.get((ingestion_id, claim))

    def keep(self, draft: Draft) -> None:
        """Remember a draft for the next step."""
        self._kept[draft.id, draft.claim] = draft
        while len(self._kept) > _MAX_DRAFTS:
            self._kept.popitem(last=False)

    def drop(self, ingestion_id: UUID, claim: UUID) -> None:
        """Forget a draft."""
        self._kept.pop((ingestion_id, claim), None)

    async def save_raw(self, draft: Draft, data: bytes) -> None:
        """Stage the content itself."""
        await self._put(draft, RAW, data)

    async def save_parsed(self, draft: Draft) -> None:
        """Stage what parsing gave, with the content it came from."""
        assert draft.parsed is not None
        body = await asyncio.to_thread(_parsed_adapter.dump_json, (draft.parsed, draft.chunks))
        await self._put(draft, _PARSED, _labelled(draft, body))

    async def load_parsed(self, draft: Draft) -> bool:
        """Take what an earlier run parsed of the same content; False if there is none."""
        found = await self._load(draft, _PARSED, _parsed_adapter)
        if found is not None:
            draft.parsed, draft.chunks = found
        return found is not None

    async def save_extraction(self, draft: Draft) -> None:
        """Stage what extraction gave."""
        assert draft.extraction is not None
        await self._put(draft, _EXTRACTION, _labelled(draft, _extraction_adapter.dump_json(draft.extraction)))

    async def load_extraction(self, draft: Draft) -> bool:
        """Take what an earlier run extracted of the same content; False if there is none."""
        draft.extraction = await self._load(draft, _EXTRACTION, _extraction_adapter)
        return draft.extraction is not None

    async def unstage(self, ingestion_id: UUID) -> None:
        """Remove all that was staged of an ingestion."""
        with faults.around("staging.delete"):
            await self._staging.delete(ingestion_id)

    async def _put(self, draft: Draft, name: str, data: bytes) -> None:
        with faults.around("staging.put"):
            await self._staging.put(draft.id, name, data)

    async def _load(self, draft: Draft, name: str, adapter: TypeAdapter[T]) -> T | None:
        data = await self._staging.get(draft.id, name)
        if data is None:
            return None
        label, _, body = data.partition(b"\n")
        if json.loads(label) != draft.content_hash:
            return None  # of another content: the file has changed since
        return await asyncio.to_thread(adapter.validate_json, body)


def _labelled(draft: Draft, body: bytes) -> bytes:
    return json.dumps(draft.content_hash).encode() + b"\n" + body
