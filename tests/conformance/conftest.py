from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from apex_mcp.stores.vectors.protocol import VectorIndex

DIMENSION = 8


@pytest.fixture(params=["edge"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex]:
    """An empty index for vectors of eight numbers, one of each implementation."""
    assert request.param == "edge"
    opened = await EdgeVectorIndex.open(
        tmp_path / "vectors", record_id=uuid4(), embedder="test", dimension=DIMENSION
    )
    yield opened
    await opened.close()
