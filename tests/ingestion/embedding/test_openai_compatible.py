import asyncio
import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding import Readiness
from apex_mcp.ingestion.embedding.openai_compatible import OpenAICompatibleEmbedder
from tests.doubles.openai_server import Body, CutConnection, OpenAIServer, Status, vector_of

pytestmark = pytest.mark.anyio

KEY = "sk-a-secret-key"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(api_key=KEY) as server:
        yield server


@asynccontextmanager
async def embedder_at(server: OpenAIServer, **changes: str) -> AsyncGenerator[OpenAICompatibleEmbedder]:
    embedder = OpenAICompatibleEmbedder(
        base_url=changes.get("base_url", server.base_url),
        model=changes.get("model", "text-embedding-3-small"),
        api_key=SecretStr(changes.get("key", KEY)),
    )
    try:
        yield embedder
    finally:
        await embedder.close()


@pytest.mark.parametrize("honour_base64", [True, False])
async def test_texts_become_unit_vectors_in_their_order_however_they_are_encoded(honour_base64: bool) -> None:
    texts = ["the board met in May", "revenue rose", "the board met in June"]
    with OpenAIServer(honour_base64=honour_base64) as server:
        async with embedder_at(server) as embedder:
            vectors = await embedder.embed_documents(texts)
    for text, vector in zip(texts, vectors, strict=True):
        assert vector == pytest.approx(vector_of(text, 64), abs=1e-6)
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)


async def test_preparing_tells_the_dimension_once(server: OpenAIServer) -> None:
    async with embedder_at(server) as embedder:
        assert embedder.dimension is None
        await embedder.prepare()
        await embedder.prepare()
        assert embedder.dimension == 64
        assert embedder.name == f"openai:text-embedding-3-small@{server.base_url}"
    assert len(server.requests) == 1


async def test_no_text_asks_nobody(server: OpenAIServer) -> None:
    async with embedder_at(server) as embedder:
        assert await embedder.embed_documents([]) == []
    assert server.requests == []


async def test_many_texts_go_in_batches_and_come_back_in_order(server: OpenAIServer) -> None:
    texts = [f"note number {number}" for number in range(600)]
    async with embedder_at(server) as embedder:
        vectors = await embedder.embed_documents(texts)
    assert sorted(len(request.body["input"]) for request in server.requests) == [88, 256, 256]
    assert vectors[599] == pytest.approx(vector_of("note number 599", 64), abs=1e-6)


async def test_batches_of_long_texts_stay_below_the_limit_of_a_request(server: OpenAIServer) -> None:
    async with embedder_at(server) as embedder:
        await embedder.embed_documents(["é" * 3_900] * 100)
    sizes = [sum(len(text.encode()) for text in request.body["input"]) for request in server.requests]
    assert len(sizes) == 4
    assert max(sizes) <= 250_000


async def test_a_text_beyond_the_window_is_cut_and_odd_text_is_made_sendable(server: OpenAIServer) -> None:
    async with embedder_at(server) as embedder:
        vectors = await embedder.embed_documents(["é" * 100_000, "", "lone \ud800 surrogate"])
    long, empty, odd = server.requests[0].body["input"]
    assert long == "é" * 4_000
    assert empty == " "
    assert odd == "lone ? surrogate"
    assert len(vectors) == 3


@pytest.mark.parametrize(
    "fault",
    [Status(429, "rate_limit_exceeded", "0.05"), Status(500), Status(503), CutConnection(), Body()],
    ids=["rate limit", "server error", "overloaded", "cut connection", "invalid JSON"],
)
async def test_a_passing_fault_is_tried_again(
    server: OpenAIServer, fault: Status | CutConnection | Body
) -> None:
    server.fail_next(fault)
    async with embedder_at(server) as embedder:
        assert await embedder.embed_query("hello") == pytest.approx(vector_of("hello", 64), abs=1e-6)
        assert embedder.state.ready
    assert len(server.requests) == 2


async def test_a_question_does_not_wait_for_a_long_retry_after(server: OpenAIServer) -> None:
    server.fail_next(Status(429, "rate_limit_exceeded", "120"))
    async with embedder_at(server) as embedder:
        with pytest.raises(Unavailable) as caught:
            await embedder.embed_query("hello")
        assert caught.value.code is Code.EMBEDDER_UNAVAILABLE
        assert caught.value.retry_after_seconds == 120
        assert embedder.state.readiness is Readiness.UNAVAILABLE
        assert "429 (rate_limit_exceeded)" in embedder.state.text
        with pytest.raises(Unavailable):
            await embedder.embed_query("hello again")
    assert len(server.requests) == 1, "while it rests, questions fail without asking"


async def test_a_success_of_documents_ends_the_rest(server: OpenAIServer) -> None:
    server.fail_next(Status(429, "rate_limit_exceeded", "120"))
    async with embedder_at(server) as embedder:
        with pytest.raises(Unavailable):
            await embedder.embed_query("hello")
        await embedder.embed_documents(["a document"])
        assert embedder.state.ready
        assert await embedder.embed_query("hello")


@pytest.mark.parametrize(
    ("fault", "next_step"),
    [
        (Status(400, "invalid_request_error"), "APEX_OPENAI_EMBEDDING_MODEL"),
        (Status(403, "unsupported_country"), "APEX_OPENAI_API_KEY"),
        (Status(429, "insufficient_quota"), "no credit"),
        (Status(302), "APEX_OPENAI_BASE_URL"),
    ],
    ids=["bad request", "forbidden", "out of money", "redirect"],
)
async def test_a_refusal_is_not_tried_again_and_says_what_to_do(
    server: OpenAIServer, fault: Status, next_step: str
) -> None:
    server.fail_next(fault)
    async with embedder_at(server) as embedder:
        with pytest.raises(Rejected) as caught:
            await embedder.embed_documents(["hello"])
        assert next_step in caught.value.next_step
        assert next_step in embedder.state.text
    assert caught.value.code is Code.PROVIDER_REJECTED
    assert len(server.requests) == 1


async def test_a_wrong_key_is_named_and_never_shown(server: OpenAIServer) -> None:
    async with embedder_at(server, key="sk-wrong-key") as embedder:
        with pytest.raises(Rejected) as caught:
            await embedder.prepare()
    assert "APEX_OPENAI_API_KEY" in caught.value.next_step
    assert "sk-wrong" not in str(caught.value) + repr(caught.value.to_dict())
    assert caught.value.__cause__ is None


async def test_a_wrong_model_is_named(server: OpenAIServer) -> None:
    async with embedder_at(server, model="no-such-model") as embedder:
        with pytest.raises(Rejected, match=r"404 \(model_not_found\)"):
            await embedder.prepare()


async def test_a_closed_port_is_unavailable_with_a_time_to_try_again(server: OpenAIServer) -> None:
    with OpenAIServer() as other:
        gone = other.base_url
    async with embedder_at(server, base_url=gone) as embedder:
        with pytest.raises(Unavailable) as caught:
            await embedder.embed_query("hello")
    assert caught.value.retry_after_seconds


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": []}',
        b'{"data": [{"index": 0, "embedding": []}]}',
        b'{"data": [{"index": 5, "embedding": [1.0]}]}',
        b'{"data": [{"index": 0, "embedding": "AAD"}]}',
        b'{"data": [{"index": 0, "embedding": [1e400]}]}',
        b"<html>captive portal: please log in to read SECRETS</html>",
    ],
    ids=["none", "empty", "other index", "broken base64", "infinite", "a web page"],
)
async def test_an_answer_that_is_no_vector_is_unavailable_and_not_quoted(
    server: OpenAIServer, body: bytes
) -> None:
    server.fail_next(*[Body(body)] * 2)
    async with embedder_at(server) as embedder:
        with pytest.raises(Unavailable) as caught:
            await embedder.embed_query("hello")
        assert embedder.dimension is None
    assert "SECRETS" not in str(caught.value)


async def test_vectors_of_another_length_are_refused(server: OpenAIServer) -> None:
    async with embedder_at(server) as embedder:
        await embedder.prepare()
        server.dimensions = 32
        with pytest.raises(Rejected, match="from 64 to 32"):
            await embedder.embed_query("hello")


async def test_one_failing_batch_fails_the_call_with_its_own_error(server: OpenAIServer) -> None:
    server.fail_next(Status(401, "invalid_api_key"))
    async with embedder_at(server) as embedder:
        with pytest.raises(Rejected, match="401"):
            await embedder.embed_documents(["x"] * 600)


async def test_a_cancelled_question_leaves_the_embedder_usable(server: OpenAIServer) -> None:
    server.latency_seconds = 0.5
    async with embedder_at(server) as embedder:
        asking = asyncio.create_task(embedder.embed_query("hello"))
        assert await asyncio.to_thread(server.requested.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        server.latency_seconds = 0
        assert await embedder.embed_query("hello")
