"""What can go wrong between a question and its answer."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from apex_mcp.errors import ApexError, Code, Rejected, Unavailable
from apex_mcp.ingestion.enriching import Extractor, chat, open_extractor
from apex_mcp.ingestion.enriching.protocol import Doubt, Usage
from apex_mcp.settings import load_settings
from tests.doubles.openai_server import Body, CutConnection, Fault, OpenAIServer, Refuse, Say, Status
from tests.ingestion.enriching.models import ACME, KEY, extractor_at, group

pytestmark = pytest.mark.anyio

SECRET_TEXT = "Jane Doe works at Initech Corp. since 2023-03-01."


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(api_key=KEY) as server:
        yield server


async def failure(server: OpenAIServer, **changes: Any) -> ApexError:
    """How extracting fails; nothing of text or key may be in it."""
    async with extractor_at(server, **changes) as extractor:
        with pytest.raises(ApexError) as caught:
            await extractor.extract(group(SECRET_TEXT))
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "Initech" not in f"{chain!r}{chain}"
        assert KEY not in f"{chain!r}{chain}"
        chain = chain.__cause__
    return caught.value


async def test_without_a_model_there_is_no_extractor() -> None:
    assert open_extractor(load_settings(llm="none")) is None


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Status(401, "invalid_api_key"), "invalid_api_key"),
        (Status(403, "permission_denied"), "permission_denied"),
        (Status(404, "model_not_found"), "model_not_found"),
        (Status(429, "insufficient_quota", retry_after="20"), "insufficient_quota"),
    ],
)
async def test_what_no_second_try_cures_is_rejected(server: OpenAIServer, fault: Status, code: str) -> None:
    server.fail_chats(fault)
    error = await failure(server)
    assert isinstance(error, Rejected)
    assert error.code == Code.PROVIDER_REJECTED
    assert code in error.message
    assert error.next_step
    assert len(server.chats()) == 1


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (Status(429, "rate_limit_exceeded", retry_after="7"), 7),
        (Status(429, "rate_limit_exceeded"), None),
        (Status(500), None),
        (Status(503, "overloaded", retry_after="30"), 30),
        (CutConnection(), None),
        (Body(b'{"choices": ['), None),
        (Body(b"null"), None),
        (Body(b"[]"), None),
    ],
)
async def test_what_may_pass_is_unavailable_and_asked_once(
    server: OpenAIServer, fault: Fault, seconds: float | None
) -> None:
    server.fail_next(fault)
    error = await failure(server)
    assert isinstance(error, Unavailable)
    assert (error.code, error.retry_after_seconds) == (Code.MODEL_UNAVAILABLE, seconds)
    assert len(server.chats()) == 1


async def test_an_endpoint_that_is_not_there_is_unavailable() -> None:
    with OpenAIServer() as server:
        gone = server.base_url
    with OpenAIServer() as server:
        error = await failure(server, openai_base_url=gone)
    assert (type(error), error.code) == (Unavailable, Code.MODEL_UNAVAILABLE)


async def test_an_answer_that_takes_too_long_is_unavailable(server: OpenAIServer) -> None:
    server.latency_seconds = 1.5
    error = await failure(server, llm_timeout_seconds=0.3)
    assert (type(error), error.code) == (Unavailable, Code.MODEL_UNAVAILABLE)


@pytest.mark.parametrize(
    "fault",
    [
        Refuse(),
        Say(""),
        Say("I am sorry, I cannot."),
        Say('{"extracted_entities": [{"name": "Jane'),
        Say('{"extracted_entities": [', finish_reason="length"),
        Say("[1, 2]"),
        Say("{}"),
        Say('{"error": "server overloaded"}'),
        Say('{"entities": [{"name": "Jane Doe"}], "relations": []}'),
        Say('{"extracted_entities": []}'),
        Say('{"extracted_entities": [], "edges": null}'),
        Body(b'{"choices": []}'),
        Body(b'{"choices": "none", "usage": {"prompt_tokens": "many"}}'),
        Body(b'{"choices": [{"message": {"content": "{}"}}]}'),
        Body(b"{}"),
    ],
)
async def test_answers_that_are_none_are_unusable_after_two_tries(server: OpenAIServer, fault: Fault) -> None:
    server.fail_chats(fault)
    error = await failure(server)
    assert (type(error), error.code) == (Rejected, Code.MODEL_ANSWER_UNUSABLE)
    assert len(server.chats()) == error.details["requests"] == 2
    # What an endpoint does not say is estimated.
    said = not isinstance(fault, Body)
    assert error.details["tokens_in"] == server.tokens_in if said else error.details["tokens_in"] > 1000


async def test_a_second_answer_makes_good_for_the_first_and_both_are_counted(server: OpenAIServer) -> None:
    server.fail_next(Say("no JSON at all"))
    async with extractor_at(server) as extractor:
        found, usage = await extractor.extract(group(ACME))
    assert {entity.name for entity in found.entities} >= {"ACME Corporation", "John Smith"}
    assert replace(usage, seconds=0) == Usage(
        requests=2, tokens_in=server.tokens_in, tokens_out=server.tokens_out
    )


@pytest.mark.parametrize("formats", [("json_schema", "json_object"), ("json_object",), ()])
async def test_endpoints_without_structured_outputs_answer_too_and_are_asked_rightly_from_then_on(
    formats: tuple[str, ...],
) -> None:
    with OpenAIServer(response_formats=formats, chat_models=("local",)) as server:
        async with extractor_at(server, llm_model="local", llm_small_model="local") as extractor:
            found, _ = await extractor.extract(group(ACME))
            first = len(server.chats())
            again, usage = await extractor.extract(group(ACME))
    assert again == found
    assert {entity.type for entity in found.entities} >= {"Organization", "Person", "Amount", "Contract"}
    assert first == 3 - len(formats)
    assert usage.requests == len(server.chats()) - first == 1


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


@pytest.mark.parametrize(
    "refusal",
    [
        "{limit} is too large: 17000. This model supports at most 16384 completion tokens",
        "{limit}: 17060 > 8192, which is the maximum allowed number of output tokens",
        "Range of output length should be [1, 8192]",
        "Extra inputs are not permitted",
    ],
)
@pytest.mark.parametrize("model", ["gpt-5-mini", "local"])
async def test_an_endpoint_whose_models_answer_less_is_asked_without_a_limit(
    model: str, refusal: str
) -> None:
    with OpenAIServer(answer_tokens=8192, refusal=refusal) as server:
        async with extractor_at(server, llm_model=model) as extractor:
            for _ in range(3):
                assert (await extractor.extract(group(ACME)))[0].facts
        limited = [
            bool({"max_tokens", "max_completion_tokens"} & request.body.keys()) for request in server.chats()
        ]
        assert limited == [True, False, True, False, False]
        assert all(request.body["response_format"]["type"] == "json_schema" for request in server.chats())


async def test_a_refusal_of_something_else_leaves_the_limit_as_it_was(server: OpenAIServer) -> None:
    server.fail_next(Status(400, "invalid_request_error", message="could not read the request"))
    async with extractor_at(server, llm_model="local") as extractor:
        for _ in range(2):
            await extractor.extract(group(ACME))
    assert ["max_tokens" in request.body for request in server.chats()] == [True, False, True]


async def test_a_format_that_is_refused_without_a_word_of_it_leaves_the_limit_as_it_was() -> None:
    with OpenAIServer(response_formats=("json_object",), refused_format="Invalid request") as server:
        async with extractor_at(server, llm_model="local") as extractor:
            await extractor.extract(group(ACME))
            await extractor.extract(group(ACME))
        asked = [(one.body["response_format"]["type"], "max_tokens" in one.body) for one in server.chats()]
    assert asked == [
        ("json_schema", True), ("json_schema", False), ("json_object", True), ("json_object", True),
    ]  # fmt: skip


async def test_what_one_model_refuses_another_is_asked_with(server: OpenAIServer) -> None:
    server.rejected_parameters = ("max_tokens",)
    async with extractor_at(server, llm_model="local") as extractor:
        await extractor.extract(group(ACME))
        server.rejected_parameters = ()
        await extractor.same([
            Doubt(name="A", type="T", said=(), other_name="B", other_type="T", other_said=())
        ])
    assert "max_completion_tokens" in server.chats()[-1].body


async def test_thoughts_that_are_counted_in_the_total_alone_are_paid_for(server: OpenAIServer) -> None:
    server.thought_tokens, server.thoughts_in_total = 5_000, True
    async with extractor_at(server) as extractor:
        _, usage = await extractor.extract(group(ACME))
    assert usage.tokens_out == server.tokens_out > 5_000


async def test_an_answer_that_was_cut_off_amid_thoughts_says_what_allows_more(server: OpenAIServer) -> None:
    server.thought_tokens = 50_000
    error = await failure(server, llm_thought_tokens=100)
    assert error.code == Code.MODEL_ANSWER_UNUSABLE
    assert "APEX_LLM_THOUGHT_TOKENS" in error.message


async def test_no_more_requests_are_open_than_the_settings_allow(server: OpenAIServer) -> None:
    server.latency_seconds = 0.1
    async with extractor_at(server, llm_concurrency=2) as extractor, anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(extractor.extract, group(ACME))
    assert len(server.chats()) == 6
    assert server.most_at_once == 2


class CountedTurns:
    """A rate limit that lets everybody pass, and counts."""

    def __init__(self) -> None:
        self.turns: list[tuple[str, int]] = []

    async def wait_turn(self, name: str, *, per_minute: int) -> None:
        self.turns.append((name, per_minute))


async def test_every_request_waits_its_turn(server: OpenAIServer) -> None:
    turns = CountedTurns()
    server.fail_next(Say("no JSON"))
    async with extractor_at(server, rate_limit=turns, llm_requests_per_minute=90) as extractor:
        await extractor.extract(group(ACME))
    assert turns.turns == [("llm", 90)] * 2


class LongTurns:
    """A rate limit at which everybody waits for an hour, by a clock that else stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def wait_turn(self, name: str, *, per_minute: int) -> None:
        self.now += 3600


async def test_waiting_for_a_turn_costs_none_of_the_models_time(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = LongTurns()
    usages: list[Usage] = []

    async def ask(extractor: Extractor) -> None:
        usages.append((await extractor.extract(group(ACME)))[1])

    async with extractor_at(server) as extractor:
        await ask(extractor)
    assert usages.pop().seconds > 0
    monkeypatch.setattr(chat, "time", turns)
    async with extractor_at(server, rate_limit=turns, llm_concurrency=1) as extractor:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask, extractor)
    assert turns.now == 4 * 3600
    assert [usage.seconds for usage in usages] == [0] * 4


async def test_only_the_key_of_the_settings_is_sent(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-another")
    async with extractor_at(server) as extractor:
        await extractor.extract(group(ACME))
    with OpenAIServer() as keyless:
        async with extractor_at(keyless, openai_api_key=None) as extractor:
            await extractor.extract(group(ACME))
        assert "authorization" not in keyless.requests[0].headers
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    sent = [value for request in (*server.requests, *keyless.requests) for value in request.headers.values()]
    assert not [value for value in sent if "of-another" in value]


async def test_neither_text_nor_key_is_logged_at_any_level(
    server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.fail_next(Say("no JSON"), Status(500))
    with caplog.at_level(logging.DEBUG):
        async with extractor_at(server) as extractor:
            with pytest.raises(Unavailable):
                await extractor.extract(group(SECRET_TEXT))
            await extractor.extract(group(SECRET_TEXT))
    assert "Initech" not in caplog.text
    assert KEY not in caplog.text
    assert "chat/completions" not in caplog.text


async def test_answers_of_other_models_endpoints_or_ontologies_go_under_another_name(
    server: OpenAIServer, tmp_path: Path
) -> None:
    ontology = tmp_path / "own.yaml"
    ontology.write_text(
        "entity_types: [{name: Ship, description: A ship.}]\npredicates: []\n", encoding="utf-8"
    )
    differing: list[dict[str, Any]] = [
        {},
        {"llm_model": "gpt-5"},
        {"llm_small_model": "gpt-5-mini"},
        {"ontology": ontology},
        {"openai_base_url": "http://user:password@127.0.0.1:1/v1"},
    ]
    names: set[str] = set()
    for changes in differing:
        async with extractor_at(server, **changes) as extractor:
            names.add(extractor.name)
    assert len(names) == 5
    assert not [name for name in names if "password" in name or KEY in name]
    async with extractor_at(server) as extractor:
        assert extractor.name in names


def test_graphiti_reports_nothing_and_reads_no_env_file(tmp_path: Path) -> None:
    script = (
        "from apex_mcp.ingestion.enriching import open_extractor\n"
        "from apex_mcp.settings import load_settings\n"
        "assert open_extractor(load_settings(llm='openai', openai_base_url='http://127.0.0.1:1/v1'))\n"
        "import graphiti_core.telemetry.telemetry as telemetry, os, sys\n"
        "print(telemetry.is_telemetry_enabled(), 'A_DEVELOPERS_SETTING' in os.environ, 'posthog' in sys.modules)"
    )
    (tmp_path / ".env").write_text("A_DEVELOPERS_SETTING=1\n", encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert ran.stdout.split() == ["False", "False", "False"]


async def test_an_address_that_is_none_is_refused_at_once() -> None:
    settings = load_settings(llm="openai", openai_base_url="api.openai.com/v1", openai_api_key=SecretStr(KEY))
    with pytest.raises(Rejected) as caught:
        open_extractor(settings)
    assert caught.value.code == Code.SETTINGS_INVALID
