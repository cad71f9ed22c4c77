"""Which names may be one thing, before any model is asked."""

import pytest

from apex_mcp.ingestion.enriching.names import can_be_one, certain, person_words, same_words


@pytest.mark.parametrize(
    ("name", "type_", "shared", "other_type", "expected"),
    [
        ("ACME Corp.", "Organization", "ACME", "Organization", True),
        ("ACME Corp.", "Organization", "ACME", "Thing", True),
        ("Mercury", "Product", "Mercury", "Place", False),
        ("John Smith", "Person", "John", "Person", False),
        ("John Smith", "Person", "Mr. Smith", "Person", False),
        ("Dr. John Smith", "Person", "John Smith", "Person", True),
        ("John Smith", "Thing", "John", "Person", False),
        ("$5.2M", "Amount", "$5.2M", "Amount", False),
    ],
)
def test_a_shared_name_makes_two_one(
    name: str, type_: str, shared: str, other_type: str, expected: bool
) -> None:
    assert certain(name, type_, shared, other_type) is expected


@pytest.mark.parametrize(
    ("name", "other", "type_", "expected"),
    [
        ("Widget plant", "Widget factory", "Place", True),
        ("Q3 report", "Q4 report", "Document", False),
        ("Contract of 2023", "Contract of 2024", "Contract", False),
        ("John", "John Smith", "Person", False),
        ("Smith", "John Smith", "Person", True),
        ("Smith, Anna", "Anna Smith", "Person", True),
        ("Anna Smith", "Anna Jones", "Person", False),
        ("$5.2M", "$5.2 million", "Amount", False),
        ("The Company (Lease of Initech)", "The Company (Lease of Globex)", "Organization", False),
        ("The Company (Lease of Initech)", "Initech Inc.", "Organization", True),
    ],
)
def test_a_likeness_is_worth_a_question(name: str, other: str, type_: str, expected: bool) -> None:
    assert can_be_one(name, type_, other, type_) is expected
    assert can_be_one(other, type_, name, type_) is expected


@pytest.mark.parametrize(
    ("name", "other", "expected"),
    [
        ("colour printer X", "color printer X", True),
        ("the Apollo project", "Project Apollo", True),
        ("U.S. Bank Stadium", "US Bank Stadium", True),
        ("annual strategy meeting", "Annual strategy meetings", True),
        ("Reorganisation Unit", "reorganization unit", True),
        ("Coca-Cola", "Coca Cola", True),
        ("HSBC Bank", "HSBC Bank USA", False),
        ("Project Alpha Phase One", "Project Alpha Phase Two", False),
        ("Sequoia Capital Fund X", "Sequoia Capital Fund XI", False),
        ("Sandpiper Mark I", "Sandpiper Mark II", False),
        ("Class A Notes", "Class B Notes", False),
        ("Kraftwerk Nord", "Kraftwerk Süd", False),
        ("Williams Partners", "William Partners", False),
        ("C++ compiler", "C compiler", False),
        ("东京银行", "大阪银行", False),
    ],
)
def test_no_word_that_tells_something_is_another(name: str, other: str, expected: bool) -> None:
    assert same_words(name, other) is expected
    assert same_words(other, name) is expected


def test_titles_are_no_part_of_a_name() -> None:
    assert person_words("Prof. Dr. Ada Lovelace") == ["ada", "lovelace"]
    assert person_words("Lovelace, Ada") == ["ada", "lovelace"]
