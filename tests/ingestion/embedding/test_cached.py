from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest

from apex_mcp.errors import Unavailable
from apex_mcp.ingestion.embedding.cached import CachedEmbedder
from apex_mcp.ingestion.embedding.openai_compatible import OpenAICompatibleEmbedder
from apex_mcp.stores.cache.keys import embedding_key
from apex_mcp.stores.cache.process import ProcessCache
from apex_mcp.stores.cache.protocol import Cache
from tests.doubles.openai_server import OpenAIServer, Status, vector_of

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@asynccontextmanager
async def embedder_at(
    server: OpenAIServer, cache: Cache, model: str = "text-embedding-3-small"
) -> AsyncGenerator[CachedEmbedder]:
    embedder = CachedEmbedder(
        OpenAICompatibleEmbedder(base_url=server.base_url, model=model, api_key=None), cache
    )
    try:
        yield embedder
    finally:
        await embedder.close()


def asked(server: OpenAIServer) -> list[list[str]]:
    return [request.body["input"] for request in server.requests]


async def test_only_texts_that_were_not_asked_before_are_asked(server: OpenAIServer) -> None:
    async with embedder_at(server, ProcessCache()) as embedder:
        first = await embedder.embed_documents(["one", "two"])
        second = await embedder.embed_documents(["two", "three", "one", "three"])
    assert asked(server) == [["one", "two"], ["three"]]
    assert second == [first[1], second[1], first[0], second[1]]
    assert second[1] == pytest.approx(vector_of("three", 64), abs=1e-6)


async def test_a_vector_from_the_cache_is_the_very_one_that_was_answered(server: OpenAIServer) -> None:
    cache = ProcessCache()
    async with embedder_at(server, cache) as embedder, embedder_at(server, cache) as another:
        assert await embedder.embed_documents(["one"]) == await another.embed_documents(["one"])
    assert len(server.requests) == 1


async def test_a_question_asked_again_is_not_asked_and_is_no_passage(server: OpenAIServer) -> None:
    async with embedder_at(server, ProcessCache()) as embedder:
        await embedder.embed_documents(["who?"])
        once = await embedder.embed_query("who?")
        assert await embedder.embed_query("who?") == once
    assert asked(server) == [["who?"], ["who?"]]


async def test_vectors_of_another_model_are_not_taken(server: OpenAIServer) -> None:
    cache = ProcessCache()
    server.models = ("text-embedding-3-small", "other")
    async with embedder_at(server, cache) as embedder, embedder_at(server, cache, "other") as other:
        await embedder.embed_documents(["one"])
        await other.embed_documents(["one"])
    assert len(server.requests) == 2


async def test_what_is_no_vector_of_the_model_any_more_is_asked_again(server: OpenAIServer) -> None:
    cache = ProcessCache()
    async with embedder_at(server, cache) as embedder:
        await embedder.prepare()
        for broken in (b"", b"abc", bytes(32 * 4)):
            key = embedding_key(embedder.name, "one", question=False)
            await cache.set_many({key: broken}, ttl_seconds=60)
            [vector] = await embedder.embed_documents(["one"])
            assert vector == pytest.approx(vector_of("one", 64), abs=1e-6)


async def test_what_was_answered_before_a_failure_is_not_asked_again(server: OpenAIServer) -> None:
    texts = [f"note number {number}" for number in range(1200)]
    async with embedder_at(server, ProcessCache()) as embedder:
        await embedder.embed_documents(["ready"])
        before = len(server.requests)
        await embedder.embed_documents(texts[:1024])
        server.fail_next(*[Status(503, retry_after="3600")])
        with pytest.raises(Unavailable):
            await embedder.embed_documents(texts)
        failed = len(server.requests)
        vectors = await embedder.embed_documents(texts)
    assert sum(map(len, asked(server)[before:failed])) == 1200
    assert sum(map(len, asked(server)[failed:])) == 176
    assert vectors[1199] == pytest.approx(vector_of("note number 1199", 64), abs=1e-6)


async def test_the_state_tells_tokens_and_texts_from_the_cache(server: OpenAIServer) -> None:
    async with embedder_at(server, ProcessCache()) as embedder:
        assert embedder.state.text == f"text-embedding-3-small at {server.base_url}"
        await embedder.embed_documents(["three words here", "two words"])
        await embedder.embed_documents(["two words"])
        assert embedder.state.text == (
            f"text-embedding-3-small at {server.base_url}; 5 tokens asked since this process began; "
            "1 of 3 texts from the cache"
        )
