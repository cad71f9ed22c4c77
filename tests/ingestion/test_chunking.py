from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_mcp.ingestion.chunking import MAX_TOKENS, MIN_TOKENS, WINDOW, chunk_document, count_tokens
from apex_mcp.ingestion.detection import MediaType
from apex_mcp.ingestion.formats.plain import read_markdown
from apex_mcp.models import Chunk, HeadingSpan, PageSpan, ParsedDocument


def document(
    text: str, headings: Sequence[HeadingSpan] = (), pages: Sequence[PageSpan] = ()
) -> ParsedDocument:
    return ParsedDocument(
        text=text, title="", media_type="text/plain", headings=tuple(headings), pages=tuple(pages)
    )


def markdown(text: str) -> tuple[Chunk, ...]:
    reading = read_markdown(text.encode())
    return checked(document(reading.text, reading.headings))


def checked(given: ParsedDocument) -> tuple[Chunk, ...]:
    """The chunks, once they are found to keep what every chunk promises."""
    chunks = chunk_document(given)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    covered = 0
    for chunk in chunks:
        assert given.text[chunk.place.start : chunk.place.end] == chunk.text
        assert chunk.text
        assert chunk.text == chunk.text.strip()
        assert 1 <= chunk.tokens <= MAX_TOKENS
        assert chunk.tokens == count_tokens(chunk.text)
        assert not given.text[covered : chunk.place.start].strip()
        covered = chunk.place.end
    assert not given.text[covered:].strip()
    return chunks


def words(count: int, word: str = "word") -> str:
    return " ".join([word] * count)


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(["\n", "\n\n", " \n \n ", ". ", "。", "# A\n", "\u00a0", "\u2003", "e\u0301", "\t"]),
        st.integers(1, 700).map(words),
        st.integers(1, 4000).map(lambda count: "x" * count),
        st.integers(1, 500).map(lambda count: "字" * count),
    ),
    max_size=12,
).map("".join)


@given(TEXTS)
def test_chunks_of_any_text_cover_it_once_and_in_order(text: str) -> None:
    chunks = checked(document(text))
    if len(chunks) > 1:
        assert all(MIN_TOKENS <= chunk.tokens <= WINDOW for chunk in chunks)


@given(
    TEXTS,
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(1, 6)), max_size=10),
    st.lists(st.integers(0, 5000), max_size=5),
)
def test_any_headings_and_pages_leave_the_promises_standing(
    text: str, places: list[tuple[int, int, int]], turns: list[int]
) -> None:
    headings = [
        HeadingSpan(level=level, title="t", start=min(start, len(text)), end=min(start + size, len(text)))
        for start, size, level in places
    ]
    starts = [0, *sorted(min(turn, len(text)) for turn in turns)]
    pages = [
        PageSpan(number=number, start=start, end=end)
        for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(text)], strict=True), start=1)
    ]
    for chunk in checked(document(text, headings, pages)):
        assert chunk.place.page_from is not None
        assert chunk.place.page_to is not None
        assert chunk.place.page_from <= chunk.place.page_to


SECTIONS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 500)), min_size=1, max_size=12)


@given(SECTIONS)
def test_no_chunk_takes_part_in_two_top_sections_that_could_each_stand_alone(
    sections: list[tuple[int, int]],
) -> None:
    text = "# first\n\nlead\n\n" + "\n\n".join(
        f"{'#' * level} h{number}\n\n{words(size)}" for number, (level, size) in enumerate(sections)
    )
    reading = read_markdown(text.encode())
    tops = [heading.start for heading in reading.headings if heading.level == 1]
    spans = list(zip(tops, [*tops[1:], len(text)], strict=True))
    sizes = {span: count_tokens(text[slice(*span)]) for span in spans}
    for chunk in checked(document(reading.text, reading.headings)):
        touched = [span for span in spans if span[0] < chunk.place.end and chunk.place.start < span[1]]
        assert sum(sizes[span] >= MIN_TOKENS for span in touched) <= 1


@given(SECTIONS)
def test_no_section_is_left_tiny_beside_a_neighbour_with_room(sections: list[tuple[int, int]]) -> None:
    text = "\n\n".join(f"# h{number}\n\n{words(size)}" for number, (_, size) in enumerate(sections))
    chunks = markdown(text)
    for before, after in pairwise(chunks):
        if min(before.tokens, after.tokens) < MIN_TOKENS:
            assert before.tokens + after.tokens > MAX_TOKENS


@pytest.mark.parametrize("text", ["", " \n\t ", "\u00a0"])
def test_nothing_gives_no_chunk(text: str) -> None:
    assert chunk_document(document(text)) == ()


def test_a_note_is_one_chunk() -> None:
    (chunk,) = checked(document("  Ann prefers tea.\n"))
    assert (chunk.text, chunk.tokens, chunk.place.start, chunk.place.end) == ("Ann prefers tea.", 4, 2, 18)


def test_paragraphs_stay_whole_where_they_can() -> None:
    paragraphs = [f"{letter} {words(149)}" for letter in "abcd"]
    assert [chunk.text for chunk in checked(document("\n\n".join(paragraphs)))] == paragraphs


def test_sentences_stay_whole_where_paragraphs_cannot() -> None:
    text = " ".join(f"Number {number} is {words(40)}." for number in range(50))
    chunks = checked(document(text))
    assert len(chunks) > 5
    assert all(chunk.text.startswith("Number") and chunk.text.endswith(".") for chunk in chunks)


def test_a_sentence_is_not_cut_after_an_abbreviation() -> None:
    text = f"{words(150)} e.g. {words(80)}. {words(150)}".replace("word e.g.", "word etc. and")
    assert all(not chunk.text.endswith("etc.") for chunk in checked(document(text)))


def test_rows_of_a_table_stay_whole() -> None:
    rows = "\n".join(f"row {number} | {words(10)} | end" for number in range(100))
    for chunk in checked(document(rows)):
        assert chunk.text.startswith("row")
        assert chunk.text.endswith("end")


def test_chinese_is_cut_after_its_sentences() -> None:
    chunks = checked(document("这是一个中文文本，今天天气很好。" * 100))  # noqa: RUF001
    assert len(chunks) > 5
    assert all(chunk.text.endswith("。") for chunk in chunks)


def test_a_word_without_end_is_cut() -> None:
    chunks = checked(document("x" * 10_000))
    assert "".join(chunk.text for chunk in chunks) == "x" * 10_000


def test_accents_stay_with_their_letters() -> None:
    for chunk in checked(document("e\u0301" * 1_000)):
        assert not chunk.text.startswith("\u0301")


def test_large_sections_have_chunks_of_their_own_with_their_path() -> None:
    chunks = markdown(
        f"# One\n\n## Deep\n\n{words(150)}\n\n## Deeper\n\n{words(300)}\n\n# Two\n\n{words(130)}"
    )
    assert [chunk.place.heading_path for chunk in chunks] == [
        ("One", "Deep"),
        ("One", "Deeper"),
        ("One", "Deeper"),
        ("Two",),
    ]


def test_small_sections_join_under_their_parent() -> None:
    text = (
        "# Team\n\n"
        + "\n\n".join(f"## Member {n}\n\n{words(50)}" for n in range(4))
        + f"\n\n# Next\n\n{words(200)}"
    )
    chunks = markdown(text)
    assert [chunk.place.heading_path for chunk in chunks] == [("Team",), ("Next",)]


def test_a_short_introduction_goes_with_what_it_introduces() -> None:
    chunks = markdown(
        f"{words(200)}\n\n# Part\n\nIn short:\n\n## Detail\n\n{words(200)}\n\n## More\n\n{words(200)}"
    )
    assert chunks[1].text.startswith("# Part\n\nIn short:\n\n## Detail")


def test_of_a_path_without_end_the_innermost_headings_stay() -> None:
    titles = [f"{level} {'x' * 290}" for level in range(1, 7)]
    text = "\n\n".join(f"{'#' * level} {title}" for level, title in enumerate(titles, 1))
    last = markdown(f"{text}\n\n" + "Some words of a paragraph.\n\n" * 100)[-1]
    assert last.place.heading_path == tuple(titles[-3:])


def test_headings_that_say_the_same_are_different_sections() -> None:
    chunks = markdown(f"# A\n\n## Notes\n\n{words(30)}\n\n# B\n\n## Notes\n\n{words(30)}")
    assert [chunk.place.heading_path for chunk in chunks] == [("A",)]


def test_pages_are_those_that_a_chunk_touches() -> None:
    first, second, third = (words(150, letter) for letter in "abc")
    text = f"{first}\n\n{second}\n\n{third}"
    pages = [
        PageSpan(number=1, start=0, end=len(first)),
        PageSpan(number=2, start=len(first), end=len(first)),
        PageSpan(number=3, start=len(first) + 2, end=len(text)),
    ]
    places = [chunk.place for chunk in checked(document(text, pages=pages))]
    assert [(place.page_from, place.page_to) for place in places] == [(1, 1), (3, 3), (3, 3)]


def test_a_chunk_over_two_pages_names_both() -> None:
    text = f"{words(20)}\n\n{words(20)}"
    pages = [PageSpan(number=1, start=0, end=99), PageSpan(number=2, start=101, end=len(text))]
    (chunk,) = checked(document(text, pages=pages))
    assert (chunk.place.page_from, chunk.place.page_to) == (1, 2)


def test_a_slide_never_shares_a_passage_with_the_next_one() -> None:
    text = "Goals\n\nDunlin\n\nThanks"
    pages = (
        PageSpan(number=1, start=0, end=7),
        PageSpan(number=2, start=7, end=15),
        PageSpan(number=3, start=15, end=21),
    )
    document = ParsedDocument(text=text, title="Deck", media_type=MediaType.PPTX, pages=pages)
    passages = [
        (chunk.text, chunk.place.page_from, chunk.place.page_to) for chunk in chunk_document(document)
    ]
    assert passages == [("Goals", 1, 1), ("Dunlin", 2, 2), ("Thanks", 3, 3)]
