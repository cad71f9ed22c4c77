"""What one document may cost."""

import pytest

from apex_mcp.errors import Code, Rejected
from apex_mcp.ingestion.enriching.budget import Budget
from apex_mcp.ingestion.enriching.protocol import Usage


def answer(budget: Budget, tokens: int, seconds: float = 0) -> None:
    budget.begin()
    budget.charge(Usage(requests=1, tokens_in=tokens, seconds=seconds))
    budget.end()


def test_questions_end_with_the_tokens() -> None:
    budget = Budget(tokens=100, seconds=60)
    answer(budget, 60)
    answer(budget, 60)
    with pytest.raises(Rejected) as spent:
        budget.begin()
    assert spent.value.code == Code.BUDGET_SPENT
    assert spent.value.details == {"tokens": 120, "seconds": 0}


def test_questions_end_with_the_time() -> None:
    budget = Budget(tokens=1000, seconds=60)
    answer(budget, 1, seconds=61)
    with pytest.raises(Rejected, match="60 s"):
        budget.begin()


def test_open_questions_count_as_much_as_answered_ones_did() -> None:
    budget = Budget(tokens=100, seconds=60)
    answer(budget, 30)
    for _ in range(3):
        budget.begin()
    with pytest.raises(Rejected):
        budget.begin()


def test_a_text_that_costs_more_than_is_left_is_refused_at_once() -> None:
    budget = Budget(tokens=1000, seconds=60)
    budget.require_room_for(4000)
    answer(budget, 10)
    with pytest.raises(Rejected):
        budget.require_room_for(4000)
