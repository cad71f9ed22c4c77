"""The demo's files say what its questions ask, where the questions say that they do."""

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TypedDict, cast

import pytest

from apex_mcp.ingestion.chunking import chunk_document
from apex_mcp.ingestion.parsing import parse
from apex_mcp.models import Chunk, ParsedDocument

REPOSITORY = Path(__file__).resolve().parents[2]
CORPUS = REPOSITORY / "examples" / "demo"
FILES = sorted(CORPUS.iterdir())
NO_END_TAG = {"meta", "link", "br", "hr", "img", "input"}


class Question(TypedDict):
    question: str
    answer: str
    words: list[str]
    file: str
    page: int | None
    heading: str | None


QUESTIONS = cast(
    list[Question], json.loads((CORPUS.parent / "demo_questions.json").read_text(encoding="utf-8"))
)


@cache
def parsed(name: str) -> ParsedDocument:
    return parse((CORPUS / name).read_bytes(), name=name, media_type="", max_text_chars=1_000_000)


def text_of(name: str) -> str:
    return " ".join(parsed(name).text.split())


def content_words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w+", text.lower()) if len(word) > 3}


def answering_chunks(question: Question) -> list[Chunk]:
    return [
        passage
        for passage in chunk_document(parsed(question["file"]))
        if all(words in " ".join(passage.text.split()) for words in question["words"])
    ]


def test_the_corpus_has_all_seven_formats_and_an_email() -> None:
    assert {path.suffix for path in FILES} == {
        ".pdf",
        ".docx",
        ".pptx",
        ".html",
        ".htm",
        ".md",
        ".txt",
        ".eml",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_gives_its_text_without_warnings_or_broken_signs(path: Path) -> None:
    document = parsed(path.name)

    assert "Sandpiper" in document.text
    assert "\ufffd" not in document.text
    assert document.warnings == ()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["question"])
def test_each_question_is_answered_by_one_passage_at_the_place_it_names(question: Question) -> None:
    chunks = answering_chunks(question)

    assert chunks
    if (page := question["page"]) is not None:
        assert any(
            chunk.place.page_from is not None
            and chunk.place.page_from <= page <= (chunk.place.page_to or chunk.place.page_from)
            for chunk in chunks
        )
    if (heading := question["heading"]) is not None:
        assert any(heading in chunk.place.heading_path for chunk in chunks)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question["question"])
def test_each_question_shares_words_with_its_passage_so_that_words_alone_find_it(question: Question) -> None:
    asked = content_words(question["question"])

    assert any(len(asked & content_words(chunk.text)) >= 2 for chunk in answering_chunks(question))


def test_each_thing_that_changes_is_told_as_it_was_and_as_it_became() -> None:
    assert "engineering is led by Solveig Aldane" in text_of("engineering-notes-2026-03.txt")
    assert "Rafael Quenby leads engineering from Monday, 4 May 2026" in text_of("engineering-and-address.eml")
    assert "costs €1,180" in text_of("press-2025-09-16.htm")
    assert "1,290 euros for one Sandpiper" in text_of("sandpiper.html").replace("*", "")
    assert "14 Quay Street" in text_of("press-2025-09-16.htm")
    assert "our address is 3 Lantern Yard" in text_of("engineering-and-address.eml")
    assert "instead of the 184,000 euros" in text_of("contract-tw-2024-117-renewal.pdf")
    assert "16 November 2026" in text_of("sandpiper-2-all-hands.pptx")
    assert "move to 7 December 2026" in text_of("minutes-2026-07-21.md")


def test_the_minutes_cite_the_contract_and_the_reports_revenue() -> None:
    for shared, other in (
        ("TW-2024-117", "contract-tw-2024-117-renewal.pdf"),
        ("1.604 million", "quarterly-report-2026-q2.docx"),
    ):
        assert shared in text_of("minutes-2026-07-21.md")
        assert shared in text_of(other)


@pytest.mark.parametrize(
    ("name", "encoding"), [("sandpiper.html", "utf-8"), ("press-2025-09-16.htm", "windows-1252")]
)
def test_the_pages_close_every_tag_and_declare_the_encoding_they_have(name: str, encoding: str) -> None:
    page = (CORPUS / name).read_bytes().decode(encoding)
    checker = TagChecker()
    checker.feed(page)
    checker.close()

    assert checker.open == []
    assert page.lower().startswith("<!doctype html")
    assert f"charset={encoding}" in page.replace('"', "")


class TagChecker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in NO_END_TAG:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
