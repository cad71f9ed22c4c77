from apex_mcp.ingestion.extraction.rules import extract
from tests.ingestion.extraction.documents import chunks_of, extraction, names, parsed


def test_title_full_name_and_surname_are_one_person_in_all_the_chunks_that_name_her() -> None:
    text, chunks = chunks_of("Dr. Jane Smith came.", "Nothing here.", "Jane Smith spoke.", "Then Smith left.")
    (person,) = extract(parsed(text), chunks).entities
    assert (person.name, person.aliases, person.chunks) == ("Jane Smith", ("Dr. Jane Smith",), (0, 2, 3))


def test_a_surname_of_two_people_means_neither() -> None:
    text, chunks = chunks_of("Jane Smith and Paul Smith came.", "Then Smith left.", "Mr. Smith too.")
    people = {entity.name: entity.chunks for entity in extract(parsed(text), chunks).entities}
    assert people == {"Jane Smith": (0,), "Paul Smith": (0,), "Mr. Smith": (2,)}


def test_a_surname_that_the_text_writes_in_lower_case_is_no_name_alone() -> None:
    text, chunks = chunks_of("Karen Stone came.", "Stone is hard; a stone fell.")
    (person,) = extract(parsed(text), chunks).entities
    assert person.chunks == (0,)


def test_middle_initials_join_a_name_or_tell_two_apart() -> None:
    assert names("Mark A. Lipparelli came. Mark Lipparelli left.", "Person") in (
        ["Mark Lipparelli"],
        ["Mark A. Lipparelli"],
    )
    assert len(names("Mark A. Lipparelli came. Mark B. Lipparelli left.", "Person")) == 2


def test_a_short_form_that_the_text_gives_is_an_alias_and_counts_as_a_mention() -> None:
    text, chunks = chunks_of(
        "ACME Corporation (ACME) grew.", "Then ACME shrank.", 'Orion Analytics, Inc. ("Company") too.'
    )
    found = {
        entity.name: (entity.aliases, entity.chunks) for entity in extract(parsed(text), chunks).entities
    }
    assert found == {"ACME Corporation": (("ACME",), (0, 1)), "Orion Analytics, Inc.": ((), (2,))}


def test_a_name_without_its_legal_form_is_the_same_organisation_unless_two_forms_occur() -> None:
    assert names("Redfern Labs Inc. grew. Redfern Labs shrank.", "Organization") == ["Redfern Labs Inc."]
    assert names("Zephyr Inc. sued Zephyr GmbH over Zephyr.", "Organization") == [
        "Zephyr Inc.",
        "Zephyr GmbH",
    ]


def test_the_first_word_of_an_organisation_is_a_mention_and_no_alias() -> None:
    text, chunks = chunks_of("Northwind Traders, Inc. grew.", "Then Northwind shrank.")
    (organization,) = extract(parsed(text), chunks).entities
    assert (organization.aliases, organization.chunks) == ((), (0, 1))


def test_one_name_is_one_entity_whatever_it_is_written_like() -> None:
    assert names("GALAXY GAMING, INC.\nAnnual report of Galaxy Gaming, Inc.", "Organization") == [
        "Galaxy Gaming, Inc."
    ]


def test_no_alias_is_another_entitys_name_or_alias() -> None:
    found = extraction(
        "Alpha Beta Inc. (AB) met Alpha Bravo LLC (AB). Microsoft Corporation met Microsoft GmbH."
    )
    taken = [alias for entity in found.entities for alias in entity.aliases]
    assert "AB" not in taken
