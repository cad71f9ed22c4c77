"""What is refused at the door: before anything is kept."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.accepting import Door, Given
from apex_mcp.ingestion.enriching.ontology import default_ontology
from apex_mcp.models import EntityInput, FactInput, Lane
from apex_mcp.settings import Settings


@pytest.fixture
def door(tmp_path: Path) -> Door:
    (tmp_path / "home").mkdir()
    return Door(
        Settings(home=tmp_path / "home", max_file_bytes=1_000_000, max_inline_chars=1_000), default_ontology()
    )


def refused(door: Door, caller: Caller, source: str) -> Code:
    with pytest.raises(InputError) as raised:
        door.file(caller, source, Given(namespace="default"))
    assert raised.value.next_step
    return raised.value.code


def test_files_are_taken_from_below_the_roots_only(door: Door, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "note.txt").write_text("hello", "utf-8")
    (tmp_path / "secret.txt").write_text("no", "utf-8")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    caller = Caller(roots=(root,))
    assert door.file(caller, "note.txt", Given(namespace="default")).path == str(
        (root / "note.txt").resolve()
    )
    assert refused(door, caller, str(tmp_path / "secret.txt")) is Code.PATH_OUTSIDE_ROOTS
    assert refused(door, caller, "../secret.txt") is Code.PATH_OUTSIDE_ROOTS
    assert refused(door, caller, "link.txt") is Code.PATH_OUTSIDE_ROOTS
    assert refused(door, caller, str(tmp_path / "missing.txt")) is Code.PATH_OUTSIDE_ROOTS
    assert refused(door, caller, "missing.txt") is Code.PATH_NOT_FOUND
    with pytest.raises(InputError) as caught:
        door.file(caller, "long" * 2000, Given(namespace="default"))
    assert len(str(caught.value)) < 600
    assert refused(door, caller, "deep") is Code.PATH_IS_FOLDER
    assert refused(door, Caller(), "note.txt") is Code.NO_ROOTS
    assert refused(door, Caller(roots=(Path("/"),)), str(root / "note.txt")) is Code.NO_ROOTS
    assert refused(door, caller, "https://example.com/a.pdf") is Code.SOURCE_NOT_SUPPORTED


def test_nothing_in_the_data_folder_is_ever_read(door: Door, tmp_path: Path) -> None:
    (tmp_path / "home" / "secrets.json").write_text("{}", "utf-8")
    for caller in (Caller(roots=(tmp_path,)), Caller(vouched=True)):
        assert refused(door, caller, str(tmp_path / "home" / "secrets.json")) is Code.PATH_OUTSIDE_ROOTS


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_what_is_no_regular_file_is_refused(door: Door, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(door, Caller(vouched=True), str(tmp_path / "pipe")) is Code.PATH_NOT_READABLE


def test_a_path_that_is_not_unicode_is_refused_by_itself(door: Door, tmp_path: Path) -> None:
    assert refused(door, Caller(vouched=True), f"{tmp_path}/bad\udcff.txt") is Code.SOURCE_NOT_SUPPORTED


def test_too_large_files_and_texts_are_refused(door: Door, tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_bytes(b"x" * 1_000_001)
    assert refused(door, Caller(vouched=True), str(tmp_path / "big.txt")) is Code.TOO_LARGE
    with pytest.raises(InputError) as raised:
        door.text("x" * 1_001, Given(namespace="default"))
    assert raised.value.code is Code.TOO_LARGE


def test_small_texts_go_the_fast_lane_and_pdfs_their_own(door: Door, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# a", "utf-8")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7")
    lanes = [
        door.file(Caller(vouched=True), str(tmp_path / name), Given(namespace="default")).lane
        for name in ("a.md", "a.pdf")
    ]
    assert lanes == [Lane.FAST, Lane.OWN]


@pytest.mark.parametrize("name", ["", "-a", "a b", "ä", "a/b", "x" * 65, "a\n"])
def test_a_namespace_that_cannot_be_one_is_refused(door: Door, name: str) -> None:
    with pytest.raises(InputError) as raised:
        door.text("hello", Given(namespace=name))
    assert raised.value.code is Code.INVALID_NAMESPACE


NEVER = FactInput(
    subject="Ann",
    predicate="works_at",
    object="Acme",
    valid_at=datetime(2024, 1, 1, tzinfo=UTC),
    invalid_at=datetime(2023, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    "given",
    [
        Given(namespace="n", entities=(EntityInput(name="...", type="Person"),)),
        Given(namespace="n", entities=(EntityInput(name="x" * 301, type="Person"),)),
        Given(namespace="n", facts=(NEVER,)),
        Given(namespace="n", metadata={"a": float("nan")}),
        Given(namespace="n", metadata={"a": "x" * 20_001}),
        Given(namespace="n", metadata={"a": "\0"}),
        Given(namespace="n", key="k" * 1_025),
    ],
)
def test_what_could_never_be_used_is_refused_with_a_next_step(door: Door, given: Given) -> None:
    with pytest.raises(InputError) as raised:
        door.text("hello", given)
    assert raised.value.code is Code.INVALID_ARGUMENT
    assert raised.value.next_step


def test_the_same_text_is_the_same_document_and_types_have_one_spelling(door: Door) -> None:
    first, again = (door.text("Remember me.", Given(namespace="n")) for _ in range(2))
    assert (first.key, first.fingerprint) == (again.key, again.fingerprint)
    given = Given(namespace="n", entities=(EntityInput(name="Acme", type="organisation"),))
    assert door.text("hello", given).entities[0].type == "Organization"


def test_the_same_text_said_at_two_given_times_is_two_documents_and_at_one_moment_one(door: Door) -> None:
    moment = datetime(2023, 5, 1, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=2)))
    times = (None, moment, elsewhere, moment.replace(tzinfo=None), moment.replace(year=2025))
    undated, first, *same, later = (
        door.text("Remember me.", Given(namespace="n", document_time=time)).key for time in times
    )
    assert same == [first, first]
    assert len({undated, first, later}) == 3
    assert "@" not in undated, "the key of texts without a time is as it ever was"
    keyed = (
        door.text("Remember me.", Given(namespace="n", key="me", document_time=time)).key for time in times
    )
    assert {*keyed} == {"me"}


@pytest.mark.parametrize(
    ("said", "type_"),
    [
        ("company", "Organization"),
        ("ORG", "Organization"),
        ("Corporation", "Organization"),
        ("software company", "Organization"),
        ("organisation", "Organization"),
        ("human", "Person"),
        ("star sign", "Star sign"),
    ],
)
def test_given_types_have_the_ontology_s_words(door: Door, said: str, type_: str) -> None:
    request = door.text("text", Given(namespace="default", entities=(EntityInput(name="ACME", type=said),)))
    assert request.entities == (EntityInput(name="ACME", type=type_),)


@pytest.mark.parametrize(
    ("said", "predicate"),
    [
        ("works for", "works_at"),
        ("is employed by", "works_at"),
        ("WORKS_AT", "works_at"),
        ("worksAt", "works_at"),
        ("works_at", "works_at"),
        ("employer", "works_at"),
        ("ceo", "ceo"),
        ("recommendsMetrics for", "recommendsMetrics for"),
        ("relates to", "relates to"),
    ],
)
def test_given_predicates_have_the_ontology_s_words(door: Door, said: str, predicate: str) -> None:
    fact = FactInput(subject="Jane Roe", predicate=said, object="Initech")
    request = door.text("text", Given(namespace="default", facts=(fact,)))
    sentence = "" if predicate == said else f"Jane Roe {said.replace('_', ' ')} Initech"
    assert request.facts == (replace(fact, predicate=predicate, sentence=sentence),)
    assert request.entities == ()


def test_a_fact_given_from_the_other_side_changes_sides_and_keeps_its_words_and_entity(door: Door) -> None:
    facts = [FactInput(subject=name, predicate="employs", object="Jane Roe") for name in ("Initech", "ACME")]
    long = FactInput(subject="The offer", predicate="includes", object="a lot " * 100)
    acme = EntityInput(name="ACME Corp.", type="company", aliases=("ACME",))
    request = door.text("text", Given(namespace="default", entities=(acme,), facts=(*facts, long)))
    assert request.facts == (
        FactInput(
            subject="Jane Roe", predicate="works_at", object="Initech", sentence="Initech employs Jane Roe"
        ),
        FactInput(subject="Jane Roe", predicate="works_at", object="ACME", sentence="ACME employs Jane Roe"),
        long,
    )
    assert request.entities == (replace(acme, type="Organization"), EntityInput(name="Initech", type=""))
