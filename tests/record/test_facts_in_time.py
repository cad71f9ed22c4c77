from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_mcp.models import Exclusive, Extraction
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.enrichments import End, Enriched
from apex_mcp.stores.record.graph_rows import fact_id
from apex_mcp.stores.record.timeline import Statement, beginnings, ends
from tests.record.graphs import begin, day, entity, fact, forget, look, objects, tell, works_at

pytestmark = pytest.mark.anyio

ACME, GLOBEX = works_at("Ann Lee", "Acme"), works_at("Ann Lee", "Globex", since="2024-05-01")


@pytest.mark.parametrize("order", [("2023", "2024"), ("2024", "2023")])
async def test_who_joined_another_company_no_longer_works_at_the_first(
    record: Record, order: tuple[str, str]
) -> None:
    documents = {"2023": (ACME, "2023-03-01"), "2024": (GLOBEX, "2024-06-01")}
    for year in order:
        extraction, dated = documents[year]
        await tell(record, year, extraction, dated=dated)
    (then,) = await look(record, "Ann Lee", as_of="2023-12-31")
    assert objects(then) == [("Acme", True), ("Globex", False)]
    (now,) = await look(record, "Ann Lee")
    assert objects(now) == [("Globex", True), ("Acme", False)]
    current, past = now.facts
    assert (past.valid_at, past.invalid_at) == (day("2023-03-01"), day("2024-05-01"))
    assert past.ended_by == current.fact_id
    (employer,) = await look(record, "Acme")
    assert objects(employer) == [("Acme", False)]


def chief(person: str, company: str) -> Extraction:
    return Extraction(
        entities=(entity(person, "Person"), entity(company)), facts=(fact(person, "ceo_of", company),)
    )


@pytest.mark.parametrize("order", [("2022", "2024"), ("2024", "2022")])
async def test_a_company_with_a_new_chief_no_longer_has_the_old_one(
    record: Record, order: tuple[str, str]
) -> None:
    people = {"2022": "Ann Lee", "2024": "Bob Ray"}
    for year in order:
        await tell(record, year, chief(people[year], "Acme"), dated=f"{year}-01-01")
    (ann,) = await look(record, "Ann Lee")
    (past,) = ann.facts
    assert (past.current, past.invalid_at) == (False, day("2024-01-01"))
    (bob,) = await look(record, "Bob Ray")
    assert (objects(bob), bob.facts[0].fact_id) == ([("Acme", True)], past.ended_by)
    (then,) = await look(record, "Acme", as_of="2023-01-01")
    assert {(one.subject, one.current) for one in then.facts} == {("Ann Lee", True), ("Bob Ray", False)}


async def test_a_chief_leaves_by_what_comes_first_another_chief_or_another_company(record: Record) -> None:
    await tell(record, "one", chief("Ann Lee", "Acme"), dated="2020-01-01")
    await tell(record, "two", chief("Bob Ray", "Acme"), dated="2024-01-01")
    await tell(record, "three", chief("Ann Lee", "Globex"), dated="2022-01-01")
    (ann,) = await look(record, "Ann Lee")
    assert {(one.object, one.invalid_at) for one in ann.facts} == {
        ("Acme", day("2022-01-01")),
        ("Globex", None),
    }
    (bob,) = await look(record, "Bob Ray")
    assert objects(bob) == [("Acme", True)]


async def test_a_spelling_of_the_same_chief_ends_nothing(record: Record) -> None:
    await tell(record, "one", Extraction(
        entities=(entity("Ann Lee", "Person", "Ann M. Lee"), entity("Acme")),
        facts=(fact("Ann Lee", "ceo_of", "Acme"),)), dated="2020-01-01")  # fmt: skip
    await tell(record, "two", chief("Ann M. Lee", "Acme"), dated="2024-01-01")
    (ann,) = await look(record, "Ann Lee")
    assert objects(ann) == [("Acme", True)]


async def test_what_was_known_before_the_second_document_did_not_end(record: Record) -> None:
    await tell(record, "2023", ACME, dated="2023-03-01")
    before = datetime.now(UTC)
    await tell(record, "2024", GLOBEX, dated="2024-06-01")
    (ann,) = await look(record, "Ann Lee", known_at=before)
    assert objects(ann) == [("Acme", True)]


async def test_a_spelling_of_the_same_company_ends_nothing_and_is_one_fact(record: Record) -> None:
    await tell(record, "2023", works_at("Ann Lee", "Acme Corp."), dated="2023-03-01")
    await tell(record, "2024", works_at("Ann Lee", "Acme Corporation"), dated="2024-03-01")
    (ann,) = await look(record, "Ann Lee")
    (only,) = ann.facts
    assert (only.current, len(only.sources)) == (True, 2)


async def test_who_came_back_worked_there_twice(record: Record) -> None:
    for key, company in (("2021", "Acme"), ("2022", "Globex"), ("2023", "Acme")):
        await tell(record, key, works_at("Ann Lee", company), dated=f"{key}-01-01")
    (ann,) = await look(record, "Ann Lee")
    assert sorted((one.object, one.invalid_at) for one in ann.facts if one.invalid_at) == [
        ("Acme", day("2022-01-01")),
        ("Globex", day("2023-01-01")),
    ]
    assert [one.object for one in ann.facts if one.current] == ["Acme"]


async def test_who_came_back_and_left_again_was_elsewhere_in_between(record: Record) -> None:
    stints = (("Alpha", "2010", ""), ("Beta", "2015", ""), ("Alpha", "2018", "2020"))
    for company, since, until in stints:
        stated = fact(
            "Ann Berg", "works_at", company, since=f"{since}-01-01", until=until and f"{until}-01-01"
        )
        said = Extraction(entities=(entity("Ann Berg", "Person"), entity(company)), facts=(stated,))
        await tell(record, since, said, dated=f"{until or since}-06-01")
    employers: list[list[str]] = []
    for year in (2009, 2012, 2016, 2019, 2021):
        (ann,) = await look(record, "Ann Berg", as_of=f"{year}-01-01")
        employers.append([one.object for one in ann.facts if one.current])
    assert employers == [[], ["Alpha"], ["Beta"], ["Alpha"], []]
    (ann,) = await look(record, "Ann Berg")
    assert {(one.object, one.valid_at, one.invalid_at) for one in ann.facts} == {
        ("Alpha", day("2010-01-01"), day("2015-01-01")),
        ("Beta", day("2015-01-01"), day("2018-01-01")),
        ("Alpha", day("2018-01-01"), day("2020-01-01")),
    }


async def test_what_is_only_known_to_have_ended_does_not_hold_before_its_known_beginning(
    record: Record,
) -> None:
    for key, stated, dated in (
        ("since", fact("Ann Lee", "works_at", "Acme", since="2010-01-01"), "2010-06-01"),
        ("until", fact("Ann Lee", "works_at", "Acme", until="2014-01-01"), "2020-01-01"),
    ):
        said = Extraction(entities=(entity("Ann Lee", "Person"), entity("Acme")), facts=(stated,))
        await tell(record, key, said, dated=dated)
    held: list[bool] = []
    for year in (2005, 2012, 2016):
        (ann,) = await look(record, "Ann Lee", as_of=f"{year}-01-01")
        (only,) = ann.facts
        held.append(only.current)
    assert held == [False, True, False]


async def test_an_end_that_a_source_gives_wins(record: Record) -> None:
    said = Extraction(
        entities=(entity("Ann Lee", "Person"), entity("Acme")),
        facts=(fact("Ann Lee", "works_at", "Acme", since="2020-01-01", until="2025-01-01"),),
    )
    await tell(record, "one", said, dated="2023-03-01")
    await tell(record, "two", GLOBEX, dated="2024-06-01")
    (ann,) = await look(record, "Ann Lee", as_of="2024-08-01")
    assert objects(ann) == [("Globex", True), ("Acme", True)]


async def test_a_story_of_the_past_ends_nothing_that_came_after(record: Record) -> None:
    said = Extraction(
        entities=(entity("Ann Lee", "Person"), entity("Initech")),
        facts=(fact("Ann Lee", "works_at", "Initech", until="2019-01-01"),),
    )
    await tell(record, "one", GLOBEX, dated="2024-06-01")
    await tell(record, "memoir", said, dated="2025-06-01")
    (ann,) = await look(record, "Ann Lee")
    assert objects(ann) == [("Globex", True), ("Initech", False)]


async def test_predicates_that_may_hold_several_objects_end_nothing(record: Record) -> None:
    for year, friend in (("2023", "Bob Ray"), ("2024", "Cy Fox")):
        said = Extraction(
            entities=(entity("Ann Lee", "Person"), entity(friend, "Person")),
            facts=(fact("Ann Lee", "knows", friend),),
        )
        await tell(record, year, said, dated=f"{year}-01-01")
    (ann,) = await look(record, "Ann Lee")
    assert [one.current for one in ann.facts] == [True, True]


async def test_a_models_word_ends_a_fact_while_its_version_is_visible(record: Record) -> None:
    managed = Extraction(
        entities=(entity("Ann Lee", "Person"),), facts=(fact("Ann Lee", "manages", "the pilot"),)
    )
    await tell(record, "one", managed, dated="2023-01-01")
    await tell(record, "two", Extraction(), dated="2024-01-01", enrich=True)
    (older,) = await record.enrichments.facts_of_subject("default", "Ann Lee")
    work = await begin(record)
    ended = fact("Ann Lee", "left", "the pilot", since="2023-11-01")
    found = Extraction(entities=(entity("Ann Lee", "Person"),), facts=(ended,))
    assert await record.enrichments.publish(
        work.version_id,
        work.claim,
        Enriched(
            extraction=found,
            ends=(End(by_id=fact_id("default", ended), ended_id=older.id, at=day("2023-11-01")),),
        ),
    )
    (ann,) = await look(record, "Ann Lee")
    assert {(one.predicate, one.invalid_at, one.current) for one in ann.facts} == {
        ("left", None, True),
        ("manages", day("2023-11-01"), False),
    }
    assert await record.enrichments.facts_of_subject("default", "Ann Lee") != [older]
    await tell(record, "two", Extraction(), dated="2024-01-01", text="nothing of it")
    (ann,) = await look(record, "Ann Lee")
    assert objects(ann) == [("the pilot", True)]


async def test_an_end_before_an_undated_text_was_accepted_counts_and_nothing_begins_with_it(
    record: Record,
) -> None:
    await tell(record, "joined", works_at("Ann Lee", "Globex", since="2025-02-01"), dated="2025-03-01")
    await tell(record, "undated", ACME)
    await tell(record, "ended", Extraction(), enrich=True)
    acme, globex = await record.enrichments.facts_of_subject("default", "Ann Lee")
    assert (acme.object, acme.known_since, acme.invalid_at) == ("Acme", None, None)
    assert globex.invalid_at is not None
    left = fact("Ann Lee", "left", "Acme", since="2024-05-01")
    said = Extraction(entities=(entity("Ann Lee", "Person"), entity("Acme")), facts=(left,))
    ended = (End(by_id=fact_id("default", left), ended_id=acme.id, at=day("2024-05-01")),)
    work = await begin(record)
    enriched = Enriched(extraction=said, ends=ended)
    assert await record.enrichments.publish(work.version_id, work.claim, enriched)
    (ann,) = await look(record, "Ann Lee")
    assert {(one.predicate, one.object, one.valid_at, one.invalid_at, one.current) for one in ann.facts} == {
        ("works_at", "Acme", None, day("2024-05-01"), False),
        ("works_at", "Globex", day("2025-02-01"), None, True),
        ("left", "Acme", day("2024-05-01"), None, True),
    }
    (then,) = await look(record, "Ann Lee", as_of="2023-01-01")
    assert [one.object for one in then.facts if one.current] == ["Acme"]


async def test_a_fact_is_shown_from_when_it_holds_whatever_was_forgotten_between(record: Record) -> None:
    await tell(record, "2023", works_at("Ann Lee", "Acme"), dated="2023-03-01")
    between = await tell(record, "2024", works_at("Ann Lee", "Beta"), dated="2024-05-01")
    await tell(record, "2025", works_at("Ann Lee", "Acme", since="2025-02-01"), dated="2025-02-10")
    (ann,) = await look(record, "Ann Lee", as_of="2023-06-30")
    assert {(one.object, one.valid_at, one.invalid_at, one.current) for one in ann.facts} == {
        ("Acme", day("2023-03-01"), day("2024-05-01"), True),
        ("Beta", day("2024-05-01"), day("2025-02-01"), False),
        ("Acme", day("2025-02-01"), None, False),
    }
    await forget(record, between)
    (ann,) = await look(record, "Ann Lee", as_of="2023-06-30")
    assert [(one.object, one.valid_at, one.invalid_at, one.current) for one in ann.facts] == [
        ("Acme", day("2023-03-01"), None, True)
    ]


NAMESPACE = UUID(int=0)
TIMES = st.integers(0, 12).map(lambda number: day("2020-01-01") + timedelta(days=number))


def statement(what: str, said_at: datetime) -> Statement:
    return Statement(
        fact_id=uuid5(NAMESPACE, what), subject=what[0], predicate="p", object=what[1], said_at=said_at
    )


STATEMENTS = st.lists(
    st.builds(statement, st.sampled_from(["ax", "ay", "bx", "by", "cz"]), TIMES), max_size=12
)
P = frozenset({"p"})


@given(
    STATEMENTS, st.sampled_from([Exclusive(objects=P), Exclusive(subjects=P), Exclusive(P, P), Exclusive()])
)
def test_each_statement_ends_at_the_first_later_one_that_excludes_it(
    said: list[Statement], exclusive: Exclusive
) -> None:
    def excludes(other: Statement, one: Statement) -> bool:
        same = (other.subject == one.subject, other.object == one.object)
        return ("p" in exclusive.objects and same == (True, False)) or (
            "p" in exclusive.subjects and same == (False, True)
        )

    for one, end in zip(said, ends(said, exclusive=exclusive, told={}), strict=True):
        later = [other for other in said if other.said_at > one.said_at and excludes(other, one)]
        assert (end.at if end else None) == min((other.said_at for other in later), default=None)
        if end:
            assert end.by in {other.fact_id for other in later if other.said_at == end.at}


START = day("2020-01-01")
# Of what happened, what is written about a stint: how, and how far into it.
WRITTEN = st.lists(
    st.tuples(st.sampled_from(["then", "since", "stint", "until", "undated"]), st.integers(0, 9)), max_size=3
)
STINTS = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(1, 3), st.integers(0, 2), WRITTEN), max_size=6
)


def at(time: float) -> datetime:
    return START + timedelta(days=time)


def written(stints: Sequence[tuple[str, int, int, Sequence[tuple[str, int]]]]) -> list[Statement]:
    """What sources say of stints one after the other, each so long and so long after the one before."""
    said: list[Statement] = []
    over = 0
    for what, length, pause, sources in stints:
        since, until = over + pause, over + pause + length
        over = until
        for how, place in sources:
            said.append(
                Statement(
                    fact_id=uuid5(NAMESPACE, f"{what} {since} {how}"),
                    subject="a",
                    predicate="p",
                    object=what,
                    said_at=at(1000 if how != "then" else since + length * place / 10),
                    valid_at=at(since) if how in ("since", "stint") else None,
                    invalid_at=at(until) if how in ("stint", "until") else None,
                    dated=how != "undated",
                )
            )
    return said


def held_at(time: datetime, said: Sequence[Statement]) -> set[object]:
    """The simple model: who was begun last, unless it is told to have ended; else whose end is the next thing known."""
    known = [
        (one.begins, one.object) for one in said if one.begins is not None and one.known_since is not None
    ]
    over = [(one.invalid_at, one.object) for one in said if one.invalid_at is not None]
    begun = max((pair for pair in known if pair[0] <= time), default=None, key=lambda pair: pair[0])
    if begun and not any(what == begun[1] and begun[0] < end <= time for end, what in over):
        return {begun[1]}
    later = [begins for begins, _ in known if begins > time]
    end, what = min((pair for pair in over if pair[0] > time), default=(None, None), key=lambda pair: pair[0])
    return set() if end is None or any(begins < end for begins in later) else {what}


@given(STINTS)
def test_of_a_life_with_one_employer_at_a_time_one_is_shown_whatever_is_written_of_it(
    stints: list[tuple[str, int, int, list[tuple[str, int]]]],
) -> None:
    said, exclusive = list(dict.fromkeys(written(stints))), Exclusive(objects=P)
    ended = ends(said, exclusive=exclusive, told={})
    begun = beginnings(said, ended, exclusive=exclusive)
    for time in (at(place / 4) for place in range(-4, 130)):
        shown = {
            one.object
            for one, since, end in zip(said, begun, ended, strict=True)
            if (since is None or since <= time) and (end is None or end.at > time)
        }
        assert shown == held_at(time, said)
