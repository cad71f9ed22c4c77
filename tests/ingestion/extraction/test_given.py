from datetime import UTC, datetime

import pytest

from apex_mcp.errors import InputError
from apex_mcp.ingestion.extraction.rules import extract
from apex_mcp.models import EntityInput, ExtractedEntity, ExtractedFact, FactInput
from tests.ingestion.extraction.documents import chunks_of, parsed


def test_a_given_entity_keeps_its_name_and_type_and_gains_what_the_rules_found() -> None:
    text, chunks = chunks_of("ACME Corporation (ACME) grew.", "Later ACME shrank.")
    found = extract(
        parsed(text),
        chunks,
        given_entities=[EntityInput(name="acme corporation", type="Customer", aliases=("Acme!",))],
    )
    assert found.entities == (
        ExtractedEntity(name="acme corporation", type="Customer", aliases=("Acme!", "ACME"), chunks=(0, 1)),
    )


def test_a_given_entity_is_joined_to_the_found_one_that_shares_an_alias() -> None:
    text, chunks = chunks_of("ACME Corporation (ACME) grew.")
    found = extract(
        parsed(text),
        chunks,
        given_entities=[EntityInput(name="The Client", type="Customer", aliases=("ACME",))],
    )
    assert [(entity.name, entity.aliases) for entity in found.entities] == [
        ("The Client", ("ACME", "ACME Corporation"))
    ]


def test_found_facts_name_the_given_entities() -> None:
    text, chunks = chunks_of("ACME Corporation (ACME) acquired Beta Ltd.")
    found = extract(
        parsed(text), chunks, given_entities=[EntityInput(name="Client", type="Customer", aliases=("ACME",))]
    )
    assert [(fact.subject, fact.predicate, fact.object) for fact in found.facts] == [
        ("Client", "acquired", "Beta Ltd.")
    ]


def test_a_given_entity_that_no_chunk_names_has_the_first_as_its_source() -> None:
    text, chunks = chunks_of("One.", "Two about project x.", "Three.")
    found = extract(
        parsed(text),
        chunks,
        given_entities=[EntityInput(name="Project X", type="Project"), EntityInput(name="Y", type="Project")],
    )
    assert [(entity.name, entity.chunks) for entity in found.entities] == [("Project X", (1,)), ("Y", (0,))]


def test_a_given_fact_makes_its_subject_a_thing_and_its_object_a_value_where_nothing_names_them() -> None:
    text, chunks = chunks_of("Nothing to see.", "The cat likes tea.")
    found = extract(
        parsed(text), chunks, given_facts=[FactInput(subject="Cat", predicate="likes", object="tea")]
    )
    assert found.entities == (ExtractedEntity(name="Cat", type="Thing", chunks=(1,)),)
    assert found.facts == (
        ExtractedFact(
            subject="Cat",
            predicate="likes",
            object="tea",
            sentence="Cat likes tea",
            chunk=1,
            object_is_entity=False,
        ),
    )


def test_the_object_of_a_given_fact_is_an_entity_where_it_names_one_given_or_found() -> None:
    text, chunks = chunks_of("Dr. Jane Smith came.")
    found = extract(
        parsed(text),
        chunks,
        given_entities=[EntityInput(name="Apollo", type="Project", aliases=("the moon thing",))],
        given_facts=[
            FactInput(subject="Apollo", predicate="led_by", object="Dr. Jane Smith"),
            FactInput(subject="JANE SMITH", predicate="leads", object="the moon thing"),
        ],
    )
    assert [(fact.subject, fact.object, fact.object_is_entity) for fact in found.facts] == [
        ("Apollo", "Jane Smith", True),
        ("Jane Smith", "Apollo", True),
    ]


def test_a_given_fact_belongs_to_the_chunk_that_holds_its_sentence_or_most_of_its_words() -> None:
    text, chunks = chunks_of("Tea is nice.", "Ann likes coffee.", "Ann likes green tea.", "End.")
    stated = [
        FactInput(subject="Ann", predicate="likes", object="coffee", sentence="Ann likes  coffee."),
        FactInput(subject="Ann", predicate="drinks", object="green tea"),
        FactInput(subject="Bob", predicate="owns", object="a boat"),
    ]
    found = extract(parsed(text), chunks, given_facts=stated)
    assert [fact.chunk for fact in found.facts] == [1, 2, 0]


def test_a_given_fact_replaces_the_same_found_one_and_keeps_its_times() -> None:
    text, chunks = chunks_of("Acme Corp. acquired Beta Ltd. in March 2024.")
    since = datetime(2024, 3, 1, tzinfo=UTC)
    given = FactInput(
        subject="acme corp", predicate="acquired", object="beta ltd", sentence="As said.", valid_at=since
    )
    (fact,) = extract(parsed(text), chunks, given_facts=[given, given]).facts
    assert (fact.subject, fact.object, fact.sentence, fact.valid_at) == (
        "Acme Corp.",
        "Beta Ltd.",
        "As said.",
        since,
    )


def test_what_is_given_without_any_chunk_is_kept() -> None:
    found = extract(parsed(""), (), given_facts=[FactInput(subject="A", predicate="is", object="B")])
    assert (found.entities, found.facts[0].chunk) == ((ExtractedEntity(name="A", type="Thing"),), 0)


@pytest.mark.parametrize(
    ("entities", "facts"),
    [
        ([EntityInput(name=" ... ", type="Thing")], []),
        ([], [FactInput(subject="", predicate="is", object="x")]),
        ([], [FactInput(subject="x", predicate=" ", object="x")]),
        ([], [FactInput(subject="x", predicate="is", object="")]),
    ],
)
def test_a_name_that_says_nothing_is_an_error_of_the_caller(
    entities: list[EntityInput], facts: list[FactInput]
) -> None:
    with pytest.raises(InputError, match="given"):
        extract(parsed("text"), (), given_entities=entities, given_facts=facts)


def test_what_a_given_fact_names_without_a_type_takes_nothing_from_what_was_found() -> None:
    text, chunks = chunks_of("ACME Corporation (ACME) hires.")
    untyped = [EntityInput(name=name, type="") for name in ("ACME", "Initech")]
    found = extract(parsed(text), chunks, given_entities=untyped)
    assert [(one.name, one.type) for one in found.entities] == [
        ("Initech", "Thing"),
        ("ACME Corporation", "Organization"),
    ]
