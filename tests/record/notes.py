"""Short ways to accept, claim and commit in tests."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import (
    Chunk,
    ExtractedEntity,
    ExtractedFact,
    Extraction,
    IngestionRequest,
    Lane,
    ParsedDocument,
    Place,
    SourceType,
)
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.ingestions import Ingestion
from apex_mcp.stores.record.versions import CommitResult, NewVersion, content_hash


def note(key: str = "note", text: str = "hello", namespace: str = "default", **more: Any) -> IngestionRequest:
    return IngestionRequest(
        namespace=namespace,
        key=key,
        source_type=more.pop("source_type", SourceType.INLINE),
        lane=more.pop("lane", Lane.FAST),
        fingerprint=f"{key}:{text}",
        text=text or None,
        **more,
    )


async def claim(
    record: Record, *, limit: int = 64, owner: str = "me", lane: Lane = Lane.FAST
) -> tuple[UUID, list[UUID]]:
    token, claimed = await record.outbox.claim(
        owner=owner, lane=lane, bulk=False, limit=limit, lease_seconds=60
    )
    return token, [one.id for one in claimed]


def version(ingestion: Ingestion, token: UUID, text: str) -> NewVersion:
    """A version of one chunk; "Ann works at Acme" also names two entities and states a fact."""
    extraction = Extraction()
    if "Ann works at Acme" in text:
        extraction = Extraction(
            entities=(
                ExtractedEntity(name="Ann", type="Person", chunks=(0,)),
                ExtractedEntity(name="Acme", type="Organization", chunks=(0,)),
            ),
            facts=(
                ExtractedFact(
                    subject="Ann", predicate="works_at", object="Acme", sentence="Ann works at Acme", chunk=0
                ),
            ),
        )
    return NewVersion(
        id=ids.version_id(ingestion.document_id, ingestion.id, token),
        ingestion_id=ingestion.id,
        document_id=ingestion.document_id,
        namespace=ingestion.namespace,
        content_hash=content_hash(text, {}),
        title=text,
        uri="apex://test",
        source_type=SourceType.INLINE,
        document_time=None,
        metadata={},
        parsed=ParsedDocument(text=text, title=text, media_type="text/plain"),
        chunks=(Chunk(ordinal=0, text=text, place=Place(start=0, end=len(text)), tokens=len(text.split())),),
        extraction=extraction,
    )


async def commit(record: Record, token: UUID, texts: dict[UUID, str]) -> CommitResult:
    owned = await record.ingestions.get(list(texts))
    return await record.versions.commit([version(one, token, texts[one.id]) for one in owned], token)


async def remember(
    record: Record, text: str, *, key: str = "note", namespace: str = "default"
) -> CommitResult:
    """Accept, claim and commit one note."""
    (ingestion,) = await record.ingestions.accept([note(key, text, namespace)])
    token, claimed = await claim(record)
    assert claimed == [ingestion]
    return await commit(record, token, {ingestion: text})


async def visible_texts(record: Record, namespace: str = "default") -> Sequence[str]:
    async with record.reader.view(namespace) as view:
        return sorted(
            row["title"] for row in await view.list_documents(source_types=[], limit=100, before=None)
        )
