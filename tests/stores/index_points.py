"""Points for tests of vector indexes."""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID, uuid4, uuid5

from apex_mcp.models import IndexFilter, IndexPoint, Retirement, Scalar


def version_of(
    *texts: str,
    namespace: str = "mine",
    version_id: UUID | None = None,
    document_id: UUID | None = None,
    source_type: str = "inline",
    media_type: str = "text/plain",
    document_time: datetime | None = None,
    metadata: Mapping[str, Scalar | list[Scalar]] | None = None,
    dense: Sequence[list[float] | None] | None = None,
) -> list[IndexPoint]:
    """The points of one version, a chunk for each text, with ids that follow from the version's."""
    version = version_id or uuid4()
    return [
        IndexPoint(
            id=uuid5(version, str(ordinal)),
            namespace=namespace,
            version_id=version,
            document_id=document_id or uuid4(),
            text=text,
            source_type=source_type,
            media_type=media_type,
            document_time=document_time,
            metadata=dict(metadata or {}),
            dense=dense[ordinal] if dense else None,
        )
        for ordinal, text in enumerate(texts)
    ]


def retirement(points: Sequence[IndexPoint], revision_from: int, revision_to: int) -> Retirement:
    return Retirement(version_id=points[0].version_id, revision_from=revision_from, revision_to=revision_to)


def unit_vector(rng: random.Random, dimension: int = 8) -> list[float]:
    numbers = [rng.gauss(0, 1) for _ in range(dimension)]
    length = sum(number * number for number in numbers) ** 0.5
    return [number / length for number in numbers]


MINE = IndexFilter(namespace="mine")
