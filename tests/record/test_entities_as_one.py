import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex_mcp.errors import Code, Conflict
from apex_mcp.ids import core_name, legal_form, normalise_name
from apex_mcp.models import Extraction
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.components import DIFFERENT, connected
from apex_mcp.stores.record.enrichments import Enriched, Link
from tests.record.graphs import begin, entity, fact, forget, id_of, look, names, tell

pytestmark = pytest.mark.anyio

CORP = Extraction(entities=(entity("ACME Corp."),), facts=(fact("ACME Corp.", "makes", "anvils"),))
CORPORATION = Extraction(
    entities=(entity("ACME Corporation"),), facts=(fact("ACME Corporation", "sells", "rockets"),)
)


async def linked(record: Record) -> list[tuple[Any, ...]]:
    rows = await record.database.fetch_all("SELECT a_id, b_id, version_id FROM entity_links")
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ACME Corp.", "ACME Corporation"),
        ("Acme, Inc.", "The Acme Company"),
        ("Müller GmbH & Co. KG", "Müller GmbH"),
        ("Coca-Cola", "Coca Cola Company"),
        ("Procter & Gamble", "Procter and Gamble Co."),
        ("Enel S.p.A.", "Enel"),
        ("ООО Ромашка", "Ромашка"),  # noqa: RUF001  (Cyrillic)
    ],
)
def test_spellings_of_one_organisation_share_a_core(one: str, other: str) -> None:
    assert core_name(one) == core_name(other) != ""


@pytest.mark.parametrize(
    ("one", "other"), [("Acme Group", "Acme"), ("Day Spa", "Day"), ("Limited", "Inc."), ("Foo is", "Foo")]
)
def test_names_of_different_things_share_none(one: str, other: str) -> None:
    assert core_name(one) != core_name(other)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("ACME Corp.", {"inc"}),
        ("The Acme Company", {"inc"}),
        ("Toyota Co., Ltd.", {"ltd"}),
        ("Müller GmbH & Co. KG", {"gmbh", "kg"}),
        ("Enel S.p.A.", {"spa"}),
        ("ООО Ромашка", {"ooo"}),  # noqa: RUF001  (Cyrillic)
        ("Day Spa", set[str]()),
        ("Acme", set[str]()),
    ],
)
def test_the_legal_form_is_what_the_core_lacks(name: str, form: set[str]) -> None:
    assert legal_form(normalise_name(name), core_name(name)) == form


@given(
    st.sets(
        st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda edge: edge[0] != edge[1]), max_size=30
    )
)
def test_components_are_what_can_be_reached(edges: set[tuple[int, int]]) -> None:
    reached = {node: {node} for edge in edges for node in edge}
    for _ in reached:
        for a, b in edges:
            reached[a] |= reached[b]
            reached[b] |= reached[a]
    found = connected(edges)  # pyright: ignore[reportArgumentType]  (numbers are ids enough)
    assert sorted(map(sorted, found)) == sorted(
        {tuple(sorted(group)): sorted(group) for group in reached.values()}.values()
    )


async def test_two_spellings_meet_in_one_entity_with_both_sources(record: Record) -> None:
    await tell(record, "one", CORP)
    await tell(record, "two", CORPORATION)
    for query in ("ACME Corp.", "ACME Corporation", "acme"):
        (acme,) = await look(record, query)
        assert (acme.name, acme.entity_id, acme.mentions) == ("ACME Corp.", id_of("ACME Corp."), 2)
        assert acme.aliases == ["ACME Corporation"]
        assert [(one.entity_id, one.reason) for one in acme.merged_from] == [
            (id_of("ACME Corporation"), "name")
        ]
        assert sorted(one.object for one in acme.facts) == ["anvils", "rockets"]
        assert len(acme.sources) == 2
    async with record.reader.view("default") as view:
        (by_id,) = await view.find_entities(
            query=None, entity_id=id_of("ACME Corporation"), type_=None, limit=1
        )
        assert by_id["id"] == id_of("ACME Corp.")
        assert await view.graph_counts() == {"entities": 1, "facts": 2}
        assert len(await view.chunks_naming([id_of("ACME Corporation")], limit=9)) == 2


async def test_splitting_separates_them_from_that_revision_on_and_joining_ends_it(record: Record) -> None:
    await tell(record, "one", CORP)
    await tell(record, "two", CORPORATION)
    before = datetime.now(UTC)
    await record.splits.split("default", id_of("ACME Corp."), id_of("ACME Corporation"))
    assert sorted(names(await look(record, "acme"))) == ["ACME Corp.", "ACME Corporation"]
    assert names(await look(record, "acme", known_at=before)) == ["ACME Corp."]
    between = datetime.now(UTC)
    with pytest.raises(Conflict) as not_one:
        await record.splits.split("default", id_of("ACME Corp."), id_of("ACME Corporation"))
    assert not_one.value.code is Code.NOT_MERGED
    await record.splits.join("default", id_of("ACME Corporation"), id_of("ACME Corp."))
    assert names(await look(record, "acme")) == ["ACME Corp."]
    assert len(await look(record, "acme", known_at=between)) == 2
    with pytest.raises(Conflict) as not_split:
        await record.splits.join("default", id_of("ACME Corp."), id_of("ACME Corporation"))
    assert not_split.value.code is Code.NOT_SPLIT


async def test_what_the_user_split_does_not_meet_again_through_a_third_name(record: Record) -> None:
    await tell(record, "one", CORP)
    await tell(record, "two", CORPORATION)
    await record.splits.split("default", id_of("ACME Corp."), id_of("ACME Corporation"))
    await tell(record, "three", Extraction(entities=(entity("Acme Inc."),)))
    await tell(record, "two", Extraction(entities=(entity("ACME Corporation"), entity("Rockets"))))
    found = {view.name: [one.name for one in view.merged_from] for view in await look(record, "acme")}
    assert found == {"ACME Corp.": ["Acme Inc."], "ACME Corporation": []}


@pytest.mark.parametrize(
    ("by", "forgotten"),
    [
        ("name", ["one"]),
        ("name", ["two"]),
        ("name", ["one", "two"]),
        ("name", ["two", "one"]),
        ("model", ["two"]),
        ("model", ["one", "two"]),
    ],
)
async def test_what_was_forgotten_and_comes_back_stays_split_and_can_be_joined_again(
    record: Record, by: str, forgotten: list[str]
) -> None:
    said = {"one": "ACME Corp.", "two": "ACME Corporation" if by == "name" else "The Anvil Makers"}
    alike = Enriched(
        extraction=Extraction(), links=(Link(name=said["two"], other_id=id_of(said["one"]), reason=by),)
    )

    async def say(key: str) -> UUID:
        told = await tell(record, key, Extraction(entities=(entity(said[key]),)), enrich=key == "two")
        if key == "two" and by == "model":
            work = await begin(record)
            assert await record.enrichments.publish(work.version_id, work.claim, alike)
        return told

    versions = {key: await say(key) for key in said}
    await record.splits.split("default", id_of(said["one"]), id_of(said["two"]))
    for key in forgotten:
        await forget(record, versions[key])
    for key in forgotten:
        await say(key)
    assert sorted(await shown_names(record, said)) == sorted(said.values())
    await record.splits.join("default", id_of(said["one"]), id_of(said["two"]))
    assert len(await shown_names(record, said)) == 1


async def shown_names(record: Record, said: dict[str, str]) -> set[str]:
    return {view.name for name in said.values() for view in await look(record, name)}


@pytest.mark.parametrize("third", [False, True])
@pytest.mark.parametrize("forgotten", [0, 1])
async def test_forgetting_one_document_leaves_exactly_what_the_others_say(
    record: Record, forgotten: int, third: bool
) -> None:
    versions = [await tell(record, "one", CORP), await tell(record, "two", CORPORATION)]
    if third:
        both = Extraction(entities=(entity("ACME Corp."), entity("ACME Corporation")))
        await tell(record, "three", both)
    await forget(record, versions[forgotten])
    (acme,) = await look(record, "acme")
    assert [one.object for one in acme.facts] == [["rockets"], ["anvils"]][forgotten]
    assert len(acme.sources) == 1 + third
    assert acme.name == ("ACME Corp." if third or forgotten else "ACME Corporation")
    assert len(acme.merged_from) == third
    if not third:
        assert await linked(record) == []
        assert await record.database.fetch_all("SELECT 1 FROM entity_pairs") == []


async def test_a_link_outlives_the_version_that_made_it_where_another_names_the_same(record: Record) -> None:
    await tell(record, "one", CORP)
    second = await tell(record, "two", CORPORATION)
    await tell(record, "three", CORPORATION)
    await forget(record, second)
    (acme,) = await look(record, "acme")
    assert [one.name for one in acme.merged_from] == ["ACME Corporation"]


async def test_a_pair_goes_with_its_last_link_where_both_sides_stay(record: Record) -> None:
    await tell(record, "one", Extraction(entities=(entity("Globex"),)))
    await tell(record, "two", Extraction(entities=(entity("The Anvil Makers"),)))
    versions: list[UUID] = []
    for key in ("three", "four"):
        versions.append(await tell(record, key, Extraction(entities=(entity("Globex"),)), enrich=True))
        work = await begin(record)
        link = Link(name="Globex", other_id=id_of("The Anvil Makers"), reason="model")
        enriched = Enriched(extraction=Extraction(), links=(link,))
        assert await record.enrichments.publish(work.version_id, work.claim, enriched)
    for version_id, left in zip(versions, (1, 0), strict=True):
        await forget(record, version_id)
        assert len(await record.database.fetch_all("SELECT 1 FROM entity_pairs")) == left
        assert len(await look(record, "globex") + await look(record, "anvil makers")) == 2
        assert (await look(record, "globex"))[0].merged_from != [] or not left


async def test_an_alias_links_unless_several_have_it(record: Record) -> None:
    await tell(
        record,
        "one",
        Extraction(entities=(entity("International Business Machines", "Organization", "IBM"),)),
    )
    await tell(record, "two", Extraction(entities=(entity("IBM", "Thing"),)))
    (machines,) = await look(record, "ibm")
    assert [(one.name, one.reason) for one in machines.merged_from] == [("IBM", "alias")]
    for name in ("Globex", "Initech"):
        await tell(record, name, Extraction(entities=(entity(name, "Organization", "The Firm"),)))
    await tell(record, "three", Extraction(entities=(entity("The Firm"),)))
    assert sorted(names(await look(record, "the firm"))) == ["Globex", "Initech", "The Firm"]


IBM = {
    "called": Extraction(entities=(entity("International Business Machines", "Organization", "IBM"),)),
    "short": Extraction(entities=(entity("IBM"),)),
    "other": Extraction(entities=(entity("Irish Bread Makers", "Organization", "IBM"),)),
}


@pytest.mark.parametrize("order", list(permutations(IBM)), ids="-".join)
async def test_an_alias_that_others_have_links_nothing_whoever_came_first(
    record: Record, order: tuple[str, ...]
) -> None:
    versions = {key: await tell(record, key, IBM[key]) for key in order}
    every = ["IBM", "International Business Machines", "Irish Bread Makers"]
    assert sorted(names(await look(record, "ibm"))) == every
    async with record.reader.view("default") as view:
        assert (await view.graph_counts())["entities"] == 3
    await forget(record, versions["other"])
    (machines,) = await look(record, "ibm")
    assert {machines.name, *(one.name for one in machines.merged_from)} == set(every[:2])
    await tell(record, "other", IBM["other"])
    assert sorted(names(await look(record, "ibm"))) == every


async def test_a_graph_hears_of_an_alias_that_links_nothing_any_more(record: Record) -> None:
    await tell(record, "called", IBM["called"])
    await tell(record, "short", IBM["short"])
    await record.graph_queue.begin("graph")
    person = entity("Ian B. Moore", "Person", "IBM")
    told = await tell(record, "other", Extraction(entities=(person,)))
    assert id_of("IBM") in (await record.graph_queue.take(1000)).by_namespace["default"].entities
    await record.graph_queue.begin("anew")
    await forget(record, told)
    assert id_of("IBM") in (await record.graph_queue.take(1000)).by_namespace["default"].entities


async def test_an_alias_of_two_that_are_one_links_them_all(record: Record) -> None:
    await tell(record, "called", IBM["called"])
    await tell(record, "short", IBM["short"])
    blue = Extraction(entities=(entity("Big Blue", "Organization", "IBM"),))
    await tell(record, "other", blue, enrich=True)
    assert len(await look(record, "ibm")) == 3
    work = await begin(record)
    link = Link(name="Big Blue", other_id=id_of("International Business Machines"), reason="model")
    assert await record.enrichments.publish(
        work.version_id, work.claim, Enriched(extraction=Extraction(), links=(link,))
    )
    assert len(await look(record, "ibm")) == 1
    await record.splits.split("default", id_of("International Business Machines"), id_of("Big Blue"))
    assert len(await look(record, "ibm")) == 3


@pytest.mark.parametrize("alias", ["Mr. Smith", "Dr Smith", "Prof. Dr. Smith", "Smith, Mr.", "Smith"])
@pytest.mark.parametrize("first", [True, False])
async def test_a_title_makes_a_surname_no_full_name(record: Record, alias: str, first: bool) -> None:
    both = [
        Extraction(entities=(entity("John Smith", "Person", alias),)),
        Extraction(entities=(entity(alias, "Person"),)),
    ]
    for number, one in enumerate(both if first else reversed(both)):
        await tell(record, str(number), one)
    await tell(record, "turned", Extraction(entities=(entity(alias, "Person", "Peter Smith"),)))
    await tell(record, "peter", Extraction(entities=(entity("Peter Smith", "Person"),)))
    assert await linked(record) == []
    await tell(record, "spelled", Extraction(entities=(entity("Peter Smith", "Person", "Mr. Peter Smith"),)))
    await tell(record, "titled", Extraction(entities=(entity("Mr. Peter Smith", "Person"),)))
    assert len(await linked(record)) == 1


async def test_persons_are_not_linked_by_a_part_of_their_name_or_as_companies(record: Record) -> None:
    await tell(
        record, "one", Extraction(entities=(entity("Jane Smith", "Person", "Smith", "Jane M. Smith"),))
    )
    await tell(record, "two", Extraction(entities=(entity("Smith", "Person"), entity("Jane Smith Inc."))))
    assert await linked(record) == []
    await tell(record, "three", Extraction(entities=(entity("Jane M. Smith", "Person"),)))
    (jane,) = [view for view in await look(record, "jane smith") if view.type == "Person"]
    assert [one.name for one in jane.merged_from] == ["Jane M. Smith"]


async def test_spellings_that_are_committed_at_once_are_linked(record: Record) -> None:
    spellings = ["ACME Corp.", "ACME Corporation", "Acme Inc.", "Acme"]
    await asyncio.gather(*(tell_alone(record, spelling) for spelling in spellings))
    (acme,) = await look(record, "acme")
    assert len(acme.merged_from) == 3


async def tell_alone(record: Record, name: str) -> None:
    """As `tell`, when others claim at the same time."""
    from dataclasses import replace

    from tests.record.notes import claim, note, version

    await record.ingestions.accept([note(name, name)])
    token, claimed = await claim(record, owner=name)
    owned = await record.ingestions.get(claimed)
    made = [
        replace(version(one, token, one.key), extraction=Extraction(entities=(entity(one.key),)))
        for one in owned
    ]
    await record.versions.commit(made, token)


async def shown(record: Record, *said: str, known_at: datetime | None = None) -> set[frozenset[str]]:
    """The names that are shown as one, for each of these."""
    return {
        frozenset((view.name, *(one.name for one in view.merged_from)))
        for name in said
        for view in await look(record, name, known_at=known_at)
    }


async def say_by_model(record: Record, name: str, *links: Link, type_: str = "Organization") -> UUID:
    """A document that names this, of which a model says what it is one with, and what not."""
    version_id = await tell(
        record, f"{name} by model", Extraction(entities=(entity(name, type_),)), enrich=True
    )
    work = await begin(record)
    enriched = Enriched(extraction=Extraction(), links=links)
    assert await record.enrichments.publish(work.version_id, work.claim, enriched)
    return version_id


@pytest.mark.parametrize("order", list(permutations(["Acme GmbH", "Acme Inc.", "Acme"])))
async def test_companies_of_other_legal_forms_stay_apart_and_the_name_without_one_joins_neither(
    record: Record, order: Sequence[str]
) -> None:
    versions = {name: await tell(record, name, Extraction(entities=(entity(name),))) for name in order}
    assert await shown(record, "acme") == {frozenset([name]) for name in order}
    async with record.reader.view("default") as view:
        assert (await view.graph_counts())["entities"] == 3
    before = datetime.now(UTC)
    await tell(record, "Acme Inc.", Extraction(entities=(entity("Globex"),)))
    assert await shown(record, "acme") == {frozenset(["Acme GmbH", "Acme"])}
    assert len(await shown(record, "acme", known_at=before)) == 3
    await forget(record, versions["Acme GmbH"])
    assert await shown(record, "acme") == {frozenset(["Acme"])}


async def test_a_model_can_say_that_companies_of_other_legal_forms_are_one(record: Record) -> None:
    await tell(record, "one", Extraction(entities=(entity("Acme GmbH"), entity("Acme"), entity("Globex"))))
    await say_by_model(
        record,
        "Acme Inc.",
        Link(name="Acme Inc.", other_id=id_of("Acme GmbH"), reason="model"),
        Link(name="Acme Inc.", other_id=id_of("Globex"), reason=DIFFERENT),
    )
    assert await shown(record, "acme") == {frozenset(["Acme GmbH", "Acme", "Acme Inc."])}


async def test_what_a_fact_relates_to_each_other_is_two(record: Record) -> None:
    await tell(record, "one", CORP)
    await tell(record, "two", CORPORATION)
    stated = await tell(record, "three", Extraction(entities=(entity("Globex"),)))
    for predicate, apart in (("formerly_known_as", False), ("subsidiary_of", True)):
        relation = Extraction(
            entities=(entity("ACME Corp."), entity("ACME Corporation"), entity("Acme")),
            facts=(fact("ACME Corp.", predicate, "ACME Corporation"),),
        )
        stated = await tell(record, "three", relation)
        expected = (
            [["ACME Corp."], ["ACME Corporation"], ["Acme"]]
            if apart
            else [["ACME Corp.", "ACME Corporation", "Acme"]]
        )
        assert await shown(record, "acme") == set(map(frozenset, expected))
    await forget(record, stated)
    assert await shown(record, "acme") == {frozenset(["ACME Corp.", "ACME Corporation"])}


PEOPLE = {"Juan Perez Gomez", "Jorge Perez Gomez", "J. Perez Gomez"}


@pytest.mark.parametrize("order", list(permutations(sorted(PEOPLE))))
async def test_two_that_a_model_denied_do_not_meet_through_a_third_name(
    record: Record, order: Sequence[str]
) -> None:
    """Each is asked about those that came before it; the short name may be either."""
    versions: dict[str, UUID] = {}
    for number, name in enumerate(order):
        links = (
            Link(
                name=name,
                other_id=id_of(other),
                reason="model" if "J. Perez Gomez" in (name, other) else DIFFERENT,
            )
            for other in order[:number]
        )
        versions[name] = await say_by_model(record, name, *links, type_="Person")
    assert await shown(record, "gomez") == {frozenset([name]) for name in PEOPLE}
    # What is named again says again what was found of it; forgotten, it stands in nobody's way.
    await tell(record, "again", Extraction(entities=(entity(order[-1], "Person"),)))
    await forget(record, versions[order[-1]])
    assert await shown(record, "gomez") == {frozenset([name]) for name in PEOPLE}
    await tell(record, "Jorge Perez Gomez by model", Extraction())
    await tell(record, "again", Extraction())
    left = {"Juan Perez Gomez", "J. Perez Gomez"} & {*order[:2], order[2]}
    if order[-1] == "Jorge Perez Gomez":
        assert await shown(record, "gomez") == {frozenset(left)}


async def test_a_text_that_gives_an_alias_counts_more_than_a_model_that_denied_it(record: Record) -> None:
    await tell(record, "one", Extraction(entities=(entity("Globex"),)))
    await say_by_model(
        record, "The Globe Makers", Link(name="The Globe Makers", other_id=id_of("Globex"), reason=DIFFERENT)
    )
    assert len(await shown(record, "globex", "globe makers")) == 2
    await tell(record, "two", Extraction(entities=(entity("Globex", "Organization", "The Globe Makers"),)))
    assert await shown(record, "globex", "globe makers") == {frozenset(["Globex", "The Globe Makers"])}


async def test_nothing_is_linked_across_namespaces(record: Record) -> None:
    await tell(record, "one", CORP, namespace="ours")
    await tell(record, "two", CORPORATION, namespace="theirs")
    assert await linked(record) == []


async def test_a_part_of_a_word_finds_where_no_word_does(record: Record) -> None:
    await tell(record, "one", Extraction(entities=(entity("Lovelace Engines (Turin)", "Organization"),)))
    for query in ("lovelace", "turin", "engines turin", "gines"):
        assert names(await look(record, query)) == ["Lovelace Engines (Turin)"]
    assert await look(record, "100%") == []
