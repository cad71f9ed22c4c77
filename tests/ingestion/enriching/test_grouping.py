import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_mcp.ingestion.chunking import count_tokens
from apex_mcp.ingestion.enriching.grouping import group_passages
from apex_mcp.ingestion.enriching.protocol import Passage


def passages(*sizes: int) -> list[Passage]:
    return [Passage(ordinal=number, text="word " * size) for number, size in enumerate(sizes)]


def numbered(texts: list[str]) -> list[Passage]:
    return [Passage(ordinal=number, text=text) for number, text in enumerate(texts)]


def sizes_of(groups: list[tuple[Passage, ...]]) -> list[int]:
    return [sum(count_tokens(one.text) for one in group) for group in groups]


def test_no_passages_make_no_group() -> None:
    assert group_passages([]) == []


def test_what_fits_one_request_goes_in_one() -> None:
    assert len(group_passages(passages(*[200] * 10), 2_000)) == 1


def test_groups_but_the_last_are_at_least_half_as_long_as_they_may_be() -> None:
    sizes = sizes_of(group_passages(passages(*[200] * 60), 2_000))
    assert all(1_000 <= size <= 2_000 for size in sizes[:-1])


@pytest.mark.parametrize("place", [0, 30, 60, 99])
def test_an_edit_leaves_most_groups_as_they_were(place: int) -> None:
    texts = [f"passage {number} " + "word " * 200 for number in range(100)]
    edited = [*texts[:place], "something new " * 100, *texts[place + 1 :]]
    before, after = (
        {tuple(passage.text for passage in group) for group in group_passages(numbered(some), 2_000)}
        for some in (texts, edited)
    )
    assert len(before) >= 10
    assert 2 * len(after - before) < len(after)


def test_a_passage_that_is_too_long_is_a_group_of_its_own() -> None:
    assert [len(group) for group in group_passages(passages(50, 5_000, 50), 2_000)] == [1, 1, 1]


@given(
    st.lists(st.integers(min_value=0, max_value=500), max_size=60), st.integers(min_value=1, max_value=600)
)
def test_every_passage_is_in_one_group_in_order_and_no_group_is_longer_than_it_must(
    sizes: list[int], max_tokens: int
) -> None:
    given_passages = passages(*sizes)
    groups = group_passages(given_passages, max_tokens)
    assert [one for group in groups for one in group] == given_passages
    assert all(
        size <= max_tokens or len(group) == 1 for size, group in zip(sizes_of(groups), groups, strict=True)
    )
