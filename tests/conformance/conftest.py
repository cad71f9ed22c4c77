import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from apex_mcp.stores.vectors.protocol import VectorIndex
from apex_mcp.stores.vectors.qdrant_home import qdrant_client
from apex_mcp.stores.vectors.qdrant_server import QdrantVectorIndex
from tests.doubles.qdrant_server import QdrantServer

DIMENSION = 8
QDRANT_URL = os.environ.get("APEX_TEST_QDRANT_URL")

IMPLEMENTATIONS = [
    "edge",
    "qdrant client",
    pytest.param(
        "qdrant server",
        marks=pytest.mark.skipif(
            QDRANT_URL is None,
            reason="no package has Qdrant's server: set APEX_TEST_QDRANT_URL to the address of one",
        ),
    ),
]


@asynccontextmanager
async def edge_index(folder: Path) -> AsyncGenerator[VectorIndex]:
    opened = await EdgeVectorIndex.open(folder, record_id=uuid4(), embedder="test", dimension=DIMENSION)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def qdrant_index(url: str) -> AsyncGenerator[VectorIndex]:
    """A collection of its own on a server."""
    async with qdrant_client(url, None) as client:
        name = f"apex-test-{uuid4().hex}"
        yield await QdrantVectorIndex.open(
            client, name, record_id=uuid4(), embedder="test", dimension=DIMENSION
        )
        await client.delete_collection(name)


@pytest.fixture(params=IMPLEMENTATIONS)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[VectorIndex]:
    """An empty index for vectors of eight numbers, one of each implementation."""
    match request.param:
        case "edge":
            async with edge_index(tmp_path / "vectors") as opened:
                yield opened
        case "qdrant client":
            with QdrantServer() as server:
                async with qdrant_index(server.url) as opened:
                    yield opened
        case _:
            assert QDRANT_URL is not None
            async with qdrant_index(QDRANT_URL) as opened:
                yield opened
