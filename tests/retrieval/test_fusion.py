from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_mcp.models import Candidate
from apex_mcp.retrieval.fusion import ENTITY, MEANING, WORDS, fuse

scores = st.dictionaries(st.integers(1, 30), st.floats(0.01, 50), max_size=20)


def candidates(of: dict[int, float]) -> list[Candidate]:
    return [Candidate(chunk_id=UUID(int=number), score=score) for number, score in of.items()]


def test_the_best_passage_by_words_alone_has_score_one() -> None:
    fused = fuse({WORDS: candidates({1: 7.0, 2: 3.5}), ENTITY: []})
    assert [(one.chunk_id.int, one.score) for one in fused] == [(1, 1.0), (2, 0.5)]


def test_the_parts_of_a_score_are_said_and_add_up() -> None:
    (best, *_) = fuse({WORDS: candidates({1: 7.0}), MEANING: candidates({1: 0.8, 2: 0.5})})
    assert set(best.why) == {WORDS, MEANING}
    assert best.score == pytest.approx(1.0)


def test_the_nearest_passage_to_nonsense_is_no_answer() -> None:
    assert fuse({WORDS: [], MEANING: candidates({1: 0.15, 2: 0.05})}) == []


def test_a_far_better_match_by_words_is_not_overtaken_by_ranks() -> None:
    fused = fuse({WORDS: candidates({1: 20.0, 2: 2.0}), MEANING: candidates({2: 0.5, 1: 0.48})})
    assert fused[0].chunk_id.int == 1


@given(scores, scores)
def test_every_score_lies_between_zero_and_one_and_the_order_is_total(
    words: dict[int, float], meaning: dict[int, float]
) -> None:
    fused = fuse({
        WORDS: candidates(words),
        MEANING: candidates({key: value / 50 for key, value in meaning.items()}),
    })
    assert all(0 < one.score <= 1 + 1e-9 for one in fused)
    assert [(-one.score, one.chunk_id) for one in fused] == sorted(
        (-one.score, one.chunk_id) for one in fused
    )
    assert len({one.chunk_id for one in fused}) == len(fused)
