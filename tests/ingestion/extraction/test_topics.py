import pytest

from apex_mcp.ingestion.extraction.rules import extract
from apex_mcp.ingestion.extraction.topics import topic_of
from apex_mcp.models import HeadingSpan
from tests.ingestion.extraction.documents import chunks_of, parsed


@pytest.mark.parametrize(
    ("heading", "topic"),
    [
        ("Timeline of the outage", "Timeline of the outage"),
        ("3.2 Sample Preparation", "Sample Preparation"),
        ("CHAPTER 3 - ADMINISTRATION OF CHAPTER 13 CASES", "ADMINISTRATION OF CHAPTER 13 CASES"),
        ("Article 4 - Rent and Deposit", "Rent and Deposit"),
        ("IV. **Supply chains** in Europe", "Supply chains in Europe"),
        ("Risks and Opportunities", "Risks and Opportunities"),
    ],
)
def test_a_heading_that_names_a_subject_is_a_topic_without_its_number(heading: str, topic: str) -> None:
    assert topic_of(heading) == topic


@pytest.mark.parametrize(
    "heading",
    [
        "Introduction",
        "Table of Contents",
        "Key Highlights",
        "Chapter 3",
        "Next Steps",
        "Page 12",
        "Incident report 17",
        "How do I reset my password?",
        "We went home. It rained.",
        "12.04.2024 - 13.04.2024",
        "",
        "A heading that goes on and on like a whole sentence of its own",
    ],
)
def test_a_heading_that_every_document_has_is_none(heading: str) -> None:
    assert topic_of(heading) is None


def test_a_topic_belongs_to_the_chunk_below_its_heading() -> None:
    text, chunks = chunks_of("First passage.", "Supply chains of steel\nSecond passage.")
    start = text.index("Supply")
    heading = HeadingSpan(level=1, title="Supply chains of steel", start=start, end=start + 22)
    (topic,) = extract(parsed(text, headings=(heading,)), chunks).entities
    assert (topic.type, topic.name, topic.chunks) == ("Topic", "Supply chains of steel", (1,))


def test_a_heading_that_is_an_organisation_stays_one_entity() -> None:
    text = "Galaxy Gaming, Inc.\n\nGalaxy Gaming, Inc. grew."
    heading = HeadingSpan(level=1, title="Galaxy Gaming, Inc.", start=0, end=19)
    assert [
        (entity.type, entity.name) for entity in extract(parsed(text, headings=(heading,)), ()).entities
    ] == [("Organization", "Galaxy Gaming, Inc.")]
