"""Embedders with vectors of a given length, and whether they have done their work."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from apex_mcp.ingestion.embedding.openai_compatible import OpenAICompatibleEmbedder
from apex_mcp.stores.record import Record
from tests.doubles.openai_server import OpenAIServer


@asynccontextmanager
async def embedder_of(
    dimensions: int, *, model: str = "text-embedding-3-small"
) -> AsyncGenerator[OpenAICompatibleEmbedder]:
    """An embedder over a server of its own, prepared."""
    with OpenAIServer(dimensions=dimensions, models=(model,)) as endpoint:
        async with embedder_at(endpoint, model=model) as embedder:
            yield embedder


@asynccontextmanager
async def embedder_at(
    endpoint: OpenAIServer, *, model: str = "text-embedding-3-small"
) -> AsyncGenerator[OpenAICompatibleEmbedder]:
    """An embedder over this server, prepared."""
    embedder = OpenAICompatibleEmbedder(base_url=endpoint.base_url, model=model, api_key=None)
    try:
        await embedder.prepare()
        yield embedder
    finally:
        await embedder.close()


async def owed_none(record: Record, embedder: str) -> bool:
    """Whether every current passage has a vector of this embedder."""
    return await record.passage_vectors.count_owed(embedder) == 0
