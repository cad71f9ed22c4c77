"""What one document may cost."""

import asyncio

import pytest

from apex_mcp.errors import Code, Rejected
from apex_mcp.ingestion.enriching.budget import Budget
from apex_mcp.ingestion.enriching.protocol import Usage

pytestmark = pytest.mark.anyio


def about(tokens: int) -> Usage:
    return Usage(requests=1, tokens_in=tokens // 2, tokens_out=tokens - tokens // 2)


async def begin(budget: Budget, tokens: int) -> Usage:
    """A request of which no answer is longer than is likely."""
    return await budget.begin(about(tokens), about(tokens).tokens_out)


async def answer(budget: Budget, tokens: int, seconds: float = 0) -> None:
    reservation = await begin(budget, 1)
    await budget.end(reservation, Usage(requests=1, tokens_in=tokens, seconds=seconds))


async def test_a_request_that_would_pass_the_limit_is_not_sent() -> None:
    budget = Budget(tokens=100, seconds=60)
    await answer(budget, 60)
    with pytest.raises(Rejected) as spent:
        await begin(budget, 41)
    assert spent.value.code == Code.BUDGET_SPENT
    assert spent.value.details == {"tokens": 60, "seconds": 0}
    await begin(budget, 40)


async def test_questions_end_with_the_time() -> None:
    budget = Budget(tokens=1000, seconds=60)
    await answer(budget, 1, seconds=61)
    with pytest.raises(Rejected, match="60 s"):
        await begin(budget, 1)


async def test_open_questions_count_as_much_time_as_answered_ones_did() -> None:
    budget = Budget(tokens=1000, seconds=60)
    await answer(budget, 1, seconds=15)
    for _ in range(3):
        await begin(budget, 1)
    with pytest.raises(Rejected):
        await begin(budget, 1)


async def test_the_first_requests_do_not_pass_the_limit_together() -> None:
    budget = Budget(tokens=100, seconds=60)
    first = await begin(budget, 60)
    second = asyncio.create_task(begin(budget, 60))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not second.done()
    await budget.end(first, about(30))
    reservation = await second
    third = asyncio.create_task(begin(budget, 60))
    await budget.end(reservation, about(60))
    with pytest.raises(Rejected):
        await third


async def test_an_answer_may_be_as_long_as_what_is_left_once_no_other_is_open() -> None:
    budget = Budget(tokens=100, seconds=60)
    first = await budget.begin(about(20), 60)
    assert first.tokens_out == 60
    second = asyncio.create_task(budget.begin(about(20), 60))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not second.done()
    await budget.end(first, about(40))
    assert (await second).tokens_out == 50


def test_a_text_that_costs_more_than_is_left_is_refused_at_once() -> None:
    budget = Budget(tokens=1000, seconds=60, spent=about(10))
    budget.require_room_for(990)
    with pytest.raises(Rejected):
        budget.require_room_for(991)
