import string
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apex_mcp.ids import normalise_name
from apex_mcp.ingestion.chunking import chunk_document
from apex_mcp.ingestion.extraction.rules import MAX_ENTITIES, MAX_FACTS, extract
from apex_mcp.models import Extraction
from benchmarks.extraction_quality import FACT, measure
from tests.ingestion.extraction.documents import extraction, parsed

_PIECES = [
    "Acme Corp.", "Beta Ltd.", "(ACME)", "Dr.", "Jane Smith", "Smith", "CEO of", "joined", "acquired", "in", "Berlin,", "Germany",
    "$5.2M", "5 to $10", "March 15, 2024", "03/04/2024", "From:", "a@b.org", "<", ">", "https://x.org/(a", "Contract No. 12-3",
    "```", "`", "\n", "\n\n", "|", "Best regards,\n", "University of", "the", "Prince", ",", ".", "-", "O'Brien", "L'Oréal", "é",
    "שלום", "한국어", "\x00", "\u2028", "X" * 50,
]  # fmt: skip


def test_precision_on_the_labelled_passages_is_at_least_nine_in_ten_for_every_kind() -> None:
    quality = measure()
    assert set(quality.kinds) == {
        "Amount", "Contract", "Date", "Document", "Email", FACT, "Organization", "Person", "Place", "Product", "Topic", "Url",
    }  # fmt: skip
    imprecise = {kind: vars(count) for kind, count in quality.kinds.items() if (count.precision or 0) < 0.9}
    assert not imprecise, quality.errors
    assert (quality.total.recall or 0) >= 0.85, quality.errors


@given(st.lists(st.sampled_from(_PIECES), max_size=60).map(" ".join))
@settings(max_examples=300, deadline=None)
def test_whatever_the_text_names_and_places_are_sound(text: str) -> None:
    document = parsed(text, title="A title")
    chunks = chunk_document(document)
    _check(extract(document, chunks), len(chunks))


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_characters_are_taken(text: str) -> None:
    document = parsed(text)
    chunks = chunk_document(document)
    _check(extract(document, chunks), len(chunks))


def _check(found: Extraction, chunks: int) -> None:
    names = [normalise_name(entity.name) for entity in found.entities]
    assert len(names) == len(set(names))
    for entity in found.entities:
        assert entity.name.strip() == entity.name != ""
        assert set(entity.chunks) <= set(range(chunks))
        assert bool(entity.chunks) == bool(chunks)
    for fact in found.facts:
        assert fact.sentence
        assert normalise_name(fact.subject) in names
        assert not fact.object_is_entity or normalise_name(fact.object) in names
        assert 0 <= fact.chunk < max(chunks, 1)


def test_a_long_document_keeps_what_it_names_most_and_what_its_facts_name() -> None:
    letters = string.ascii_lowercase
    rare = "\n".join(f"Qu{a}{b} {c}or Labs Inc. exists." for a in letters for b in letters for c in "XY")
    found = extraction(f"{rare}\nZebra Labs Inc. acquired Yak Labs Inc.\n" + "Muchly Named Inc. grew.\n" * 3)
    kept = {entity.name for entity in found.entities}
    assert len(found.entities) == MAX_ENTITIES
    assert {"Zebra Labs Inc.", "Yak Labs Inc.", "Muchly Named Inc."} <= kept


def test_facts_are_limited_and_name_only_entities_that_are_kept() -> None:
    letters = string.ascii_lowercase
    text = "\n".join(f"Qu{a}{b} Labs Inc. acquired Za{a}{b} Labs Inc." for a in letters for b in letters)
    found = extraction(text)
    kept = {entity.name for entity in found.entities}
    assert len(kept) <= MAX_ENTITIES
    assert 0 < len(found.facts) <= MAX_FACTS
    assert all({fact.subject, fact.object} <= kept for fact in found.facts)


def test_a_table_of_numbers_and_a_foreign_text_give_no_junk() -> None:
    table = "\n".join(f"| Row {i} | {i}.5 | {i * 7 % 13} |" for i in range(50))
    german = "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft begabt."
    spanish = "Todos los seres humanos nacen libres. El Consejo aprobó la Propuesta del Comité el Lunes."
    french = "Le Comité de Direction remercie la Commission. Les Droits de l'Homme sont inscrits dans la Loi."
    hebrew, korean = "כל בני האדם נולדו בני חורין", "모든 인간은 태어날 때부터 자유로우며"
    assert extraction("\n\n".join([table, german, spanish, french, hebrew, korean])).entities == ()


@pytest.mark.parametrize("unit", ["A ", "((((", "Dr. ", "@", "http://(", "\n", "X"])
@pytest.mark.timeout(60)
def test_a_megabyte_of_one_pattern_is_read_in_linear_time(unit: str) -> None:
    # Quadratic work on a megabyte would run into the timeout by orders of magnitude.
    assert len(extraction((unit * 1_000_000)[:1_000_000]).entities) <= 1


@pytest.mark.parametrize(
    "unit",
    ["Co ", "Mary ", "a@b.", "$1,", "1.", "2024 ", "March ", "From: a,\n", "![", "`", "<a", "Regards\n", "A.", "A&", "Prince ",
     "Contract No. ", "University of ", "Acme Inc. acquired ", "Mary Smith\n", " " * 50],
)  # fmt: skip
@pytest.mark.timeout(60)
def test_so_are_two_hundred_kilobytes_of_what_is_looked_at_more_closely(unit: str) -> None:
    assert len(extraction((unit * 200_000)[:200_000]).entities) <= 2


@pytest.mark.parametrize(
    "unit",
    [
        "Dr. Jane Smith, CEO of Acme Inc., paid $5 on 1 May 2024 in Berlin. ",
        "of the mother of Jane Smith and Jane Smith works at Acme Inc. and left until 2005 ",
        "Mary Ann ",
        "Co Inc ",
        "King ",
    ],
)
def test_twice_the_text_makes_twice_the_steps(unit: str) -> None:
    once, twice = (_calls(unit * times) for times in (300, 600))
    assert twice <= 2.2 * once


def _calls(text: str) -> int:
    """How many functions are called to extract from `text`."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    extraction(text)
    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        extraction(text)
    finally:
        sys.setprofile(previous)
    return calls
