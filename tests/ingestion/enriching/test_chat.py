"""What can go wrong between a question and its answer."""

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.enriching import Extractor, chat, open_extractor
from apex_mcp.ingestion.enriching.protocol import Usage
from apex_mcp.settings import load_settings
from tests.doubles.openai_server import (
    Body,
    CutConnection,
    Fault,
    OpenAIServer,
    Redirect,
    Refuse,
    Say,
    Status,
)
from tests.ingestion.enriching.models import ACME, KEY, NOTHING, SECRET_TEXT, extractor_at, failure, group

pytestmark = pytest.mark.anyio


class Kept:
    """A meter that keeps what each request cost."""

    def __init__(self) -> None:
        self.costs: list[Usage] = []

    async def begin(self, estimate: Usage, longest_answer: int) -> Usage:
        return replace(estimate, tokens_out=longest_answer)

    async def end(self, reserved: Usage, cost: Usage) -> None:
        self.costs.append(cost)


async def test_without_a_model_there_is_no_extractor() -> None:
    assert open_extractor(load_settings(llm="none")) is None


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Status(401, "invalid_api_key"), "invalid_api_key"),
        (Status(403, "permission_denied"), "permission_denied"),
        (Status(404, "model_not_found"), "model_not_found"),
        (Status(429, "insufficient_quota", retry_after="20"), "insufficient_quota"),
        (Status(402, "billing"), "billing"),
        (Body(b'{"error": {"message": "no", "code": 401}}'), "401"),
        (Redirect("/v1/chat/completions"), "307"),
    ],
)
async def test_what_no_second_try_cures_is_rejected(server: OpenAIServer, fault: Fault, code: str) -> None:
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
        (Body(b'{"error": {"message": "slow down", "code": 429}}', retry_after="7"), 7),
        (Body(b'{"error": {"message": "overloaded", "code": "529"}, "choices": null}'), None),
        (Body(b'{"error": {"message": "overloaded", "code": "busy"}}'), None),
        (Body(b'{"error": "loading"}'), None),
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


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        (Status(402, "invalid_request_error", message="Insufficient Balance"), "credit"),
        (Redirect("/v1/chat/completions"), "APEX_OPENAI_BASE_URL"),
    ],
)
async def test_a_refusal_says_what_mends_it(server: OpenAIServer, fault: Fault, step: str) -> None:
    server.fail_chats(fault)
    assert step in (await failure(server)).next_step


async def test_an_error_with_a_good_status_costs_no_tokens(server: OpenAIServer) -> None:
    server.fail_next(Body(b'{"error": {"message": "slow down", "code": 429}}'))
    meter = Kept()
    async with extractor_at(server) as extractor:
        with pytest.raises(Unavailable):
            await extractor.extract(group(ACME), meter)
    assert replace(meter.costs[0], seconds=0) == Usage(requests=1)


async def test_a_request_that_is_too_long_is_so_with_a_good_status_too(server: OpenAIServer) -> None:
    server.fail_next(Body(b'{"error": {"message": "maximum context length is 4096", "code": 400}}'))
    async with extractor_at(server, llm_model="local") as extractor:
        await extractor.extract(group(ACME))
    assert ["max_tokens" in request.body for request in server.chats()] == [True, False]


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
        Say("[1, 2]"),
        Say(f"<think>{json.dumps(NOTHING)}</think>I cannot."),
        Say("{" * 10_000),
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


@pytest.mark.parametrize("url", ["api.openai.com/v1", "http://127.0.0.1:99999/v1"])
async def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    settings = load_settings(llm="openai", openai_base_url=url, openai_api_key=SecretStr(KEY))
    with pytest.raises(Rejected) as caught:
        open_extractor(settings)
    assert caught.value.code == Code.SETTINGS_INVALID
