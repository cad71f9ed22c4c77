"""A request as a row of the record, and back."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from apex_mcp import ids
from apex_mcp.models import EntityInput, FactInput, IngestionRequest, SourceType

if TYPE_CHECKING:
    from apex_mcp.stores.record.ingestions import Ingestion


def request_row(ordinal: int, request: IngestionRequest, sender: str | None) -> dict[str, Any]:
    body = asdict(request)
    for name in ("namespace", "key", "lane", "fingerprint", "text", "idempotency_key", "bulk"):
        del body[name]
    return {
        "ord": ordinal,
        "id": str(request.upload or uuid4()),
        "namespace": request.namespace,
        "document_id": str(ids.document_id(request.namespace, request.key)),
        "key": request.key,
        "request": json.loads(json.dumps(body, default=_plain)),
        "content": request.text,
        "fingerprint": request.fingerprint,
        "idempotency_key": request.idempotency_key,
        "request_id": sender,
        "lane": request.lane,
        "bulk": request.bulk,
    }


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(type(value).__name__)


def path_to_read(ingestion: "Ingestion") -> str | None:
    """Where a run of it reads its file; None where it has a text, or the file's bytes were staged as it was accepted."""
    return None if ingestion.request.get("upload") else ingestion.request["path"]


def request_of(ingestion: "Ingestion", text: str | None) -> IngestionRequest:
    """The request as it was accepted, with its inline text if it has one."""
    body = ingestion.request
    return IngestionRequest(
        namespace=ingestion.namespace,
        key=ingestion.key,
        source_type=SourceType(body["source_type"]),
        lane=ingestion.lane,
        fingerprint="",
        title=body["title"],
        uri=body["uri"],
        path=body["path"],
        text=text,
        media_type=body["media_type"],
        document_time=_time(body["document_time"]),
        metadata=body["metadata"],
        entities=tuple(
            EntityInput(name=one["name"], type=one["type"], aliases=tuple(one["aliases"]))
            for one in body["entities"]
        ),
        facts=tuple(
            FactInput(
                subject=one["subject"],
                predicate=one["predicate"],
                object=one["object"],
                sentence=one["sentence"],
                valid_at=_time(one["valid_at"]),
                invalid_at=_time(one["invalid_at"]),
            )
            for one in body["facts"]
        ),
        size_bytes=body["size_bytes"],
        bulk=ingestion.bulk,
        # Requests of earlier versions say nothing of it.
        upload=ingestion.id if body.get("upload") else None,
    )


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None
