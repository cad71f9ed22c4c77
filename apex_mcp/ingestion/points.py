"""What the vector index is given of a version that is about to be committed."""

from collections.abc import Sequence
from datetime import datetime

from apex_mcp.models import IndexPoint
from apex_mcp.stores.record.index_log import flat_metadata, searchable
from apex_mcp.stores.record.versions import NewVersion
from apex_mcp.stores.vectors.packing import unpack


def points_of(version: NewVersion, accepted_at: datetime) -> list[IndexPoint]:
    """The points of a version's passages; one that carries no time of its own is dated by its acceptance."""
    metadata = flat_metadata(version.metadata)
    vectors: Sequence[bytes | None] = version.vectors or [None] * len(version.chunks)
    return [
        IndexPoint(
            id=version.chunk_id(chunk.ordinal),
            namespace=version.namespace,
            version_id=version.id,
            document_id=version.document_id,
            text=searchable(chunk.text, chunk.ordinal, version.title, chunk.place.heading_path),
            source_type=version.source_type,
            media_type=version.parsed.media_type,
            document_time=version.document_time or accepted_at,
            metadata=metadata,
            dense=unpack(vector) if vector is not None else None,
        )
        for chunk, vector in zip(version.chunks, vectors, strict=True)
    ]
