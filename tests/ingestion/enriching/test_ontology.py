import json
from pathlib import Path

import pytest

from apex_mcp.errors import Code, Rejected
from apex_mcp.ids import normalise_type
from apex_mcp.ingestion.enriching.ontology import Ontology, default_ontology, load_ontology
from apex_mcp.ingestion.extraction.mentions import Kind
from apex_mcp.ingestion.extraction.patterns import PATTERNS
from apex_mcp.settings import load_settings

OWN = """
entity_types:
  - name: Vessel
    description: A ship or a boat.
    aliases: [ship, boat]
  - name: Port
    description: Where vessels lie.
predicates:
  - name: moored_at
    description: lies at
    subject: [Vessel]
    object: [Port]
    exclusive: true
    aliases: [lies_at]
"""

TUGS = """
  - name: tugs
    description: pulls
    inverse_aliases: [Lies at]
"""


def loaded(path: Path) -> Ontology:
    return load_ontology(load_settings(ontology=path))


def written(folder: Path, text: str, name: str = "own.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(Rejected) as caught:
        loaded(path)
    assert caught.value.code == Code.SETTINGS_INVALID
    return caught.value.message


@pytest.mark.parametrize(
    ("said", "predicate"),
    [
        ("WORKS_AT", "works_at"),
        ("WORKS_FOR", "works_at"),
        ("is employed by", "works_at"),
        ("JOINED", "works_at"),
        ("worksFor", "works_at"),
        ("IS_CEO_OF", "ceo_of"),
        ("Has Key Partner", "partnered_with"),
        ("HAS_REVENUE", "revenue"),
        ("was acquired by", "acquired"),
        ("RECOMMENDS_METRICS_FOR", "recommends_metrics_for"),
        ("RELATES_TO", ""),
        ("is_related_to", ""),
        ("Has", ""),
        ("-> !", ""),
    ],
)
def test_what_a_model_calls_a_relation_becomes_one_predicate(said: str, predicate: str) -> None:
    assert default_ontology().predicate_of(said) == predicate


def test_a_relation_from_the_other_side_is_turned() -> None:
    ontology = default_ontology()
    assert [ontology.predicate_of(said) for said in ("EMPLOYS", "has CEO", "was_founded_by")] == [
        "works_at",
        "ceo_of",
        "founded",
    ]
    assert all(ontology.turned(said) for said in ("EMPLOYS", "has CEO", "was_founded_by"))
    assert not any(ontology.turned(said) for said in ("works_at", "IS_CEO_OF", "founded", "sails_to"))


@pytest.mark.parametrize(
    ("word", "type_"),
    [
        ("person", "Person"),
        ("Organisation", "Organization"),
        ("Software Company", "Organization"),
        ("SoftwareCompany", "Organization"),
        ("cities", "Place"),
        ("monetary_value", "Amount"),
        ("Purchase Order", "Contract"),
        ("Wombat", None),
        ("Unknown", None),
        ("Thing", None),
        ("", None),
    ],
)
def test_what_a_model_calls_a_type_becomes_a_type_or_none(word: str, type_: str | None) -> None:
    assert default_ontology().type_of(word) == type_


def test_what_holds_one_object_at_a_time_is_marked() -> None:
    ontology = default_ontology()
    one_object = {"works_at", "headquartered_in", "ceo_of", "status", "priced_at", "lives_in"}
    assert one_object <= ontology.exclusive.objects
    assert {"ceo_of", "married_to"} <= ontology.exclusive.subjects
    assert not {"works_at", "lives_in", "status"} & ontology.exclusive.subjects
    assert not {"founded", "revenue", "partnered_with", "knows"} & ontology.exclusive.objects


@pytest.mark.parametrize(
    ("said", "objects", "subjects"),
    [
        ("true", True, False),
        ("object", True, False),
        ("subject", False, True),
        ("both", True, True),
        ("false", False, False),
    ],
)
def test_a_file_says_what_there_is_one_of_at_a_time(
    tmp_path: Path, said: str, objects: bool, subjects: bool
) -> None:
    exclusive = loaded(written(tmp_path, OWN.replace("exclusive: true", f"exclusive: {said}"))).exclusive
    assert ("moored_at" in exclusive.objects, "moored_at" in exclusive.subjects) == (objects, subjects)
    assert ("moored_at" in exclusive) == (objects or subjects)


def test_no_word_of_the_package_s_own_ontology_means_two_things() -> None:
    ontology = default_ontology()
    words = [word for one in ontology.predicates for word in (one.name, *one.aliases, *one.inverse_aliases)]
    assert sorted(words) == sorted(set(words))
    words = [word.casefold() for one in ontology.entity_types for word in (one.name, *one.aliases)]
    assert sorted(words) == sorted(set(words))


def test_the_rules_and_the_model_speak_of_the_same_things_in_the_same_words() -> None:
    ontology = default_ontology()
    stated = {pattern.predicate for patterns in PATTERNS.values() for pattern in patterns}
    stated |= {"ceo_of", "cfo_of", "founded_in", "holds_role", "priced_at"}
    known = {one.name for one in ontology.predicates}
    assert stated - {""} <= known
    # Of dates and addresses a model makes no entities.
    kinds = {normalise_type(kind) for kind in Kind} - {"Date", "Email", "Url"}
    assert kinds <= {one.name for one in ontology.entity_types}


def test_a_file_replaces_what_the_package_has(tmp_path: Path) -> None:
    ontology = loaded(written(tmp_path, OWN))
    assert [one.name for one in ontology.entity_types] == ["Vessel", "Port"]
    assert ontology.exclusive.objects == {"moored_at"}
    assert ontology.predicate_of("LIES_AT") == "moored_at"
    assert ontology.predicate_of("WORKS_FOR") == "works_for"
    assert ontology.fallback_type == "Port"


def test_a_file_that_extends_adds_to_it_and_its_words_win(tmp_path: Path) -> None:
    ontology = loaded(written(tmp_path, f"extends: default\n{OWN}".replace("lies_at", "works_for")))
    assert ontology.type_of("boat") == "Vessel"
    assert ontology.type_of("company") == "Organization"
    assert ontology.predicate_of("WORKS_FOR") == "moored_at"
    assert ontology.predicate_of("JOINED") == "works_at"
    assert {"moored_at", "works_at"} <= ontology.exclusive.objects
    assert ontology.fallback_type == "Topic"


def test_a_file_may_be_json(tmp_path: Path) -> None:
    own = {"extends": "default", "entity_types": [{"name": "Vessel", "description": "A ship."}]}
    ontology = loaded(written(tmp_path, json.dumps(own, indent="\t"), "own.json"))
    assert ontology.type_of("vessel") == "Vessel"


def test_no_setting_takes_the_package_s_own() -> None:
    assert load_ontology(load_settings(ontology=None)) is default_ontology()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("entity_types: [", "no YAML, at line"),
        ("just words", "Input should be"),
        ("entity_types:\n  - name: Ship\n", "entity_types.0.description: Field required"),
        (OWN.replace("name: moored_at", "name: Moored At"), "predicates.0.name: String should match"),
        (OWN.replace("object: [Port]", "object: [Harbour]"), "predicate moored_at names the entity type Harbour"),
        (OWN.replace("exclusive", "exclusif"), "predicates.0.exclusif: Extra inputs"),
        (OWN.replace("exclusive: true", "exclusive: always"), "predicates.0.exclusive"),
        (OWN.replace("name: Port", "name: Vessel"), "the entity type Vessel stands there twice"),
        (f"extends: default\n{OWN.replace('name: Port', 'name: Vessel')}", "the entity type Vessel stands there twice"),
        (OWN + TUGS, "the predicates moored_at and tugs have the word lies_at both"),
        (OWN.replace("name: moored_at", "name: relates_to"), "the predicate relates_to says nothing"),
        (OWN.replace("[lies_at]", "[Is related to]"), "moored_at has the word is_related_to, which says nothing"),
        (OWN + "    inverse_aliases: [relates_to]\n", "moored_at has the word relates_to, which says nothing"),
        (OWN + "    inverse_aliases: [Lies at]\n", "moored_at has the word lies_at for both of its sides"),
        (OWN + "    inverse_aliases: [moored_at]\n", "moored_at has the word moored_at for both of its sides"),
        (OWN + "    exclusive: false\n", "the key exclusive stands there twice, at line 15, column 5"),
        (OWN + "predicates: []\n", "the key predicates stands there twice, at line 15, column 1"),
        (f"fallback_type: Cargo\n{OWN}", "fallback_type Cargo is none of the entity types"),
        ("predicates: []\n", "entity_types"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_ontology_is_refused_with_the_place(tmp_path: Path, text: str, place: str) -> None:
    assert place in refusal(written(tmp_path, text))


def test_json_that_is_none_a_file_that_is_missing_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    assert "no JSON, at line 1, column 2" in refusal(written(tmp_path, "{", "own.json"))
    twice = '{"predicates": [], "predicates": []}'
    assert "the key predicates stands there twice" in refusal(written(tmp_path, twice, "own.json"))
    assert "cannot be read" in refusal(tmp_path / "missing.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "no UTF-8" in refusal(binary)
