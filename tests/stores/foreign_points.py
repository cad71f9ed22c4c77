"""Points in a vector index that this memory did not write."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

from qdrant_client import models
from qdrant_edge import EdgeShard, Point, UpdateOperation

from apex_mcp.models import IndexPoint, PointId
from apex_mcp.stores.vectors import layout
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from apex_mcp.stores.vectors.qdrant_server import QdrantVectorIndex

Payload = dict[str, Any]


def foreign_payloads(real: IndexPoint) -> dict[str, Payload | None]:
    """By what is wrong with them: payloads that no point of a version has, with much that those of a real one have."""
    current = layout.payload(real)
    past = {**current, "scope": layout.past(real.namespace), "from": 1, "to": 2}
    other = str(UUID(int=99))
    return {
        "none": None,
        "another's": {"hello": "world"},
        **{f"no {name}": {**current, name: None} for name in ("namespace", "version", "scope", "tags")},
        **{f"past, no {name}": {**past, name: None} for name in ("from", "to")},
        "only a version": {"version": current["version"]},
        "version is a number": {**current, "version": 5},
        "version is no id": {**current, "version": "x"},
        "scope of another namespace": {**current, "scope": layout.current("theirs")},
        "from is a text": {**past, "from": "x"},
        "tags of another version": {**current, "version": other},
        "tags are a text": {**current, "tags": "".join(current["tags"])},
    }


async def put_foreign(
    index: object,
    points: Mapping[PointId, Payload | None],
    vectors: Mapping[str, list[float]] = MappingProxyType({}),
) -> None:
    """Write these behind the index's back, each with these vectors; an embedded one has nothing else to write."""
    if isinstance(index, QdrantVectorIndex):
        await index._client.upsert(
            index._collection,
            [
                models.PointStruct(
                    id=one if isinstance(one, int) else str(one), vector=dict(vectors), payload=payload
                )
                for one, payload in points.items()
            ],
            wait=True,
        )
        return
    assert isinstance(index, EdgeVectorIndex)
    process = index._process
    await index.flush()
    assert process._child is not None
    process._child.end()
    shard = EdgeShard.load(str(index._folder / process.state.shard))
    shard.update(
        UpdateOperation.upsert_points([Point(one, dict(vectors), payload) for one, payload in points.items()])
    )
    shard.flush()
    shard.close()
    await index.ready()
