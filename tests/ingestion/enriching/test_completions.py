"""What is read from a model's answer: its object, and what it cost."""

import json
from typing import Any

import pytest

from apex_mcp.errors import Code
from tests.doubles.openai_server import Body, OpenAIServer, Say
from tests.ingestion.enriching.models import ACME, NOTHING, extractor_at, failure, group

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "framed",
    [
        "As for {{name}}:\n```json\n{answer}\n```\nI hope that {{helps}}.",
        "I consider {{a: 1}} and {nothing} ...</think>\n{answer}",
        "<thinking>{nothing}</thinking>\n{answer}",
        "{{}}\n{answer}",
        "First {nothing}, or rather {answer}",
        "{answer} An empty answer would be {nothing}.",
        "{answer}\n</think>",
        "[{answer}]",
    ],
)
async def test_the_object_is_found_between_words_and_after_thoughts(
    server: OpenAIServer, framed: str
) -> None:
    async with extractor_at(server) as extractor:
        found, _ = await extractor.extract(group(ACME))
        answer = json.dumps({
            **NOTHING,
            "extracted_entities": [{"name": "ACME Corporation", "entity_type_id": 1}],
        })
        server.fail_chats(Say(framed.format(answer=answer, nothing=json.dumps(NOTHING))))
        framed_one, usage = await extractor.extract(group(ACME))
    assert [entity.name for entity in framed_one.entities] == ["ACME Corporation"]
    assert usage.requests == 1
    assert found.facts


async def test_thoughts_that_a_text_quotes_are_none(server: OpenAIServer) -> None:
    text = "ACME Corporation wrote </think> on its wall."
    server.fail_chats(
        Say(
            json.dumps({
                **NOTHING,
                "extracted_entities": [{"name": "ACME Corporation", "aliases": ["</think>"]}],
            })
        )
    )
    async with extractor_at(server) as extractor:
        found, _ = await extractor.extract(group(text))
    assert [entity.name for entity in found.entities] == ["ACME Corporation"]


async def test_a_line_may_break_within_a_string(server: OpenAIServer) -> None:
    server.fail_chats(Say('{"extracted_entities": [{"name": "ACME\nCorporation"}], "edges": []}'))
    async with extractor_at(server) as extractor:
        found, _ = await extractor.extract(group(ACME))
    assert [entity.name for entity in found.entities] == ["ACME Corporation"]


async def test_an_answer_in_parts_is_put_together(server: OpenAIServer) -> None:
    entity = json.dumps({**NOTHING, "extracted_entities": [{"name": "ACME Corporation"}]})
    parts = [
        {"type": "thinking", "text": "{}"},
        {"type": "text", "text": entity[:20]},
        {"type": "text", "text": entity[20:]},
    ]
    server.fail_chats(_chat({"content": parts}))
    async with extractor_at(server) as extractor:
        found, _ = await extractor.extract(group(ACME))
    assert [entity.name for entity in found.entities] == ["ACME Corporation"]


@pytest.mark.parametrize("said", [-1_000_000, 10**30, "many", None, 0])
async def test_a_count_that_is_none_is_estimated(server: OpenAIServer, said: object) -> None:
    async with extractor_at(server, llm_model="local") as extractor:
        _, true = await extractor.extract(group(ACME))
        counts = dict.fromkeys(["prompt_tokens", "completion_tokens", "total_tokens"], said)
        server.fail_chats(_chat({"content": json.dumps(NOTHING)}, usage=counts))
        _, usage = await extractor.extract(group(ACME))
    assert abs(usage.tokens_in - true.tokens_in) < 1_000
    assert 0 < usage.tokens_out < 100


def _chat(message: dict[str, Any], **more: Any) -> Body:
    return Body(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], **more}).encode())


@pytest.mark.parametrize("model", ["local", "gpt-5-mini"])
async def test_an_answer_whose_cost_is_not_said_costs_its_length_and_thoughts_that_nobody_sees(
    server: OpenAIServer, model: str
) -> None:
    server.says_usage = False
    async with extractor_at(server, llm_model=model) as extractor:
        _, usage = await extractor.extract(group(ACME))
    thoughts = 16_000 if model == "gpt-5-mini" else 0
    assert thoughts < usage.tokens_out < thoughts + 2 * server.tokens_out + 2_000
    assert usage.tokens_in >= server.tokens_in / 2


async def test_thoughts_that_are_shown_cost_their_length(server: OpenAIServer) -> None:
    server.fail_chats(_chat({"content": json.dumps(NOTHING), "reasoning_content": "so " * 4_000}))
    async with extractor_at(server, llm_model="local") as extractor:
        _, usage = await extractor.extract(group(ACME))
    assert 3_000 < usage.tokens_out < 4_000


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
    assert len(server.chats()) == error.details["requests"] == 1


async def test_an_answer_that_was_cut_off_is_not_asked_for_again(server: OpenAIServer) -> None:
    server.fail_chats(Say('{"extracted_entities": [{"name": "ACME"}', finish_reason="length"))
    error = await failure(server)
    assert (error.code, len(server.chats())) == (Code.MODEL_ANSWER_UNUSABLE, 1)
