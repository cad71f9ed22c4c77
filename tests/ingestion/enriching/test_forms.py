"""How a question is put to endpoints that do not take every part of it."""

import pytest

from apex_mcp.errors import Rejected
from apex_mcp.ingestion.enriching.protocol import Doubt
from tests.doubles.openai_server import OpenAIServer, Status
from tests.ingestion.enriching.models import ACME, extractor_at, failure, group

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("formats", [("json_schema", "json_object"), ("json_object",), ()])
async def test_endpoints_without_structured_outputs_answer_too_and_are_asked_rightly_from_then_on(
    formats: tuple[str, ...],
) -> None:
    with OpenAIServer(response_formats=formats, chat_models=("local",)) as server:
        async with extractor_at(server, llm_model="local", llm_small_model="local") as extractor:
            found, _ = await extractor.extract(group(ACME))
            assert len(server.chats()) == 3 - len(formats)
            await extractor.extract(group(ACME))
            before = len(server.chats())
            again, usage = await extractor.extract(group(ACME))
    assert again == found
    assert {entity.type for entity in found.entities} >= {"Organization", "Person", "Amount", "Contract"}
    assert usage.requests == len(server.chats()) - before == 1


async def test_structured_outputs_name_every_field_and_allow_no_other(server: OpenAIServer) -> None:
    async with extractor_at(server) as extractor:
        await extractor.extract(group(ACME))
    asked = server.chats()[0].body["response_format"]["json_schema"]
    assert asked["strict"] is True
    for part in (asked["schema"], *asked["schema"]["$defs"].values()):
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])


@pytest.mark.parametrize(
    ("model", "parameter"),
    [
        ("gpt-5-mini", "reasoning_effort"),
        ("local", "temperature"),
        ("gpt-5-mini", "max_completion_tokens"),
        ("local", "max_tokens"),
    ],
)
async def test_a_parameter_that_the_model_refuses_is_left_out(model: str, parameter: str) -> None:
    with OpenAIServer(rejected_parameters=(parameter,)) as server:
        async with extractor_at(server, llm_model=model) as extractor:
            await extractor.extract(group(ACME))
            await extractor.extract(group(ACME))
    assert [parameter in request.body for request in server.chats()] == [True, False, False]
    assert all(request.body["response_format"]["type"] == "json_schema" for request in server.chats())


async def test_the_longest_answer_that_does_not_fit_a_context_window_is_left_out() -> None:
    with OpenAIServer(context_tokens=12_000) as server:
        async with extractor_at(server, llm_model="local") as extractor:
            assert (await extractor.extract(group(ACME)))[0].facts
        assert ["max_tokens" in request.body for request in server.chats()] == [True, False]
        server.context_tokens = 1_000
        async with extractor_at(server, llm_model="local") as extractor:
            with pytest.raises(Rejected, match="400") as refused:
                await extractor.extract(group(ACME))
    assert "longer context window" in refused.value.next_step


def _limits(server: OpenAIServer) -> list[int | None]:
    """The longest answers that were asked for."""
    return [
        request.body.get("max_tokens", request.body.get("max_completion_tokens"))
        for request in server.chats()
    ]


@pytest.mark.parametrize(
    ("refusal", "named"),
    [
        ("{limit} is too large: {asked}. This model supports at most {most} completion tokens", 8192),
        ("{limit}: {asked} > {most}, which is the maximum allowed number of output tokens of g-4-0613", 8192),
        ("Range of output length should be [1, {most}]", 8192),
        ("Unsupported value: {limit} of {asked} is not allowed; at most 8,192 is", 8192),
        ("Error code: 400: {limit} is too large", None),
        ("Extra inputs are not permitted", None),
    ],
)
@pytest.mark.parametrize("model", ["gpt-5-mini", "local"])
async def test_an_endpoint_whose_models_answer_less_is_asked_for_that_or_without_a_limit(
    model: str, refusal: str, named: int | None
) -> None:
    with OpenAIServer(answer_tokens=8192, refusal=refusal) as server:
        async with extractor_at(server, llm_model=model) as extractor:
            for _ in range(3):
                assert (await extractor.extract(group(ACME)))[0].facts
        first = _limits(server)[0]
        assert first is not None
        assert _limits(server) == [first, named, first, named, named]
        assert all(request.body["response_format"]["type"] == "json_schema" for request in server.chats())


@pytest.mark.parametrize(
    ("refusal", "answered"), [("at most {most} output tokens", True), ("too much", False)]
)
async def test_an_endpoint_that_wants_a_limit_is_given_what_it_allows_or_the_setting_is_named(
    refusal: str, answered: bool
) -> None:
    with OpenAIServer(answer_tokens=8192, refusal=refusal, needs_limit=True) as server:
        if answered:
            async with extractor_at(server, llm_model="local") as extractor:
                assert (await extractor.extract(group(ACME)))[0].facts
        else:
            error = await failure(server, llm_model="local")
            assert "APEX_LLM_THOUGHT_TOKENS" in error.next_step
        assert len(server.chats()) == 2


@pytest.mark.parametrize("parameter", ["temperature", "max_tokens", "response_format"])
async def test_what_a_server_like_fastapis_does_not_take_is_left_out(parameter: str) -> None:
    with OpenAIServer(rejected_parameters=(parameter,), refuses_like_fastapi=True) as server:
        async with extractor_at(server, llm_model="local") as extractor:
            for _ in range(3):
                assert (await extractor.extract(group(ACME)))[0].facts
        last = server.chats()[-1].body
    whole = {"model", "messages", "temperature", "response_format", "max_tokens"}
    instead = {"max_completion_tokens"} if parameter == "max_tokens" else set[str]()
    assert last.keys() == whole - {parameter} | instead


async def test_a_format_that_was_refused_once_is_asked_for_again(server: OpenAIServer) -> None:
    server.fail_next(Status(400, "invalid_request_error", message="Failed to compile grammar"))
    async with extractor_at(server) as extractor:
        for _ in range(2):
            await extractor.extract(group(ACME))
    formats = [request.body["response_format"]["type"] for request in server.chats()]
    assert formats == ["json_schema", "json_object", "json_schema"]


async def test_a_refusal_of_something_else_leaves_the_limit_as_it_was(server: OpenAIServer) -> None:
    server.fail_next(Status(400, "invalid_request_error", message="could not read the request"))
    async with extractor_at(server, llm_model="local") as extractor:
        for _ in range(2):
            await extractor.extract(group(ACME))
    assert ["max_tokens" in request.body for request in server.chats()] == [True, False, True]


async def test_a_format_that_is_refused_without_a_word_of_it_leaves_the_limit_as_it_was() -> None:
    with OpenAIServer(response_formats=("json_object",), refused_format="Invalid request") as server:
        async with extractor_at(server, llm_model="local") as extractor:
            for _ in range(3):
                await extractor.extract(group(ACME))
        asked = [(one.body["response_format"]["type"], "max_tokens" in one.body) for one in server.chats()]
    tried = [("json_schema", True), ("json_schema", False), ("json_object", True)]
    assert asked == [*tried, *tried, ("json_object", True)]


async def test_what_one_model_refuses_another_is_asked_with(server: OpenAIServer) -> None:
    server.rejected_parameters, server.response_formats = ("max_tokens",), ("json_object",)
    async with extractor_at(server, llm_model="local") as extractor:
        for _ in range(2):
            await extractor.extract(group(ACME))
        server.rejected_parameters, server.response_formats = (), ("json_schema", "json_object")
        await extractor.same([
            Doubt(name="A", type="T", said=(), other_name="B", other_type="T", other_said=())
        ])
        await extractor.extract(group(ACME))
    small, own = (request.body for request in server.chats()[-2:])
    assert ("max_completion_tokens" in small, small["response_format"]["type"]) == (True, "json_schema")
    assert ("max_completion_tokens" in own, own["response_format"]["type"]) == (True, "json_object")
