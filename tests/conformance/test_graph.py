"""What every graph must do: the record's own, and Neo4j told of the same commits."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import LiteralString
from uuid import UUID

import pytest

from apex_mcp.errors import Code
from apex_mcp.ingestion.projecting import Projector
from apex_mcp.models import Extraction
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.graph.neo4j_client import Neo4jClient
from apex_mcp.stores.graph.neo4j_graph import Neo4jGraph
from apex_mcp.stores.graph.protocol import Graph, Neighbour
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.enrichments import End, Enriched
from apex_mcp.stores.record.forgetting import Selection
from apex_mcp.stores.record.graph_rows import fact_id
from tests.record import graphs
from tests.record.conftest import conninfo, postgres, record
from tests.services.graph_notes import day, entity, fact, forget, id_of, tell
from tests.services.neo4j_server import Neo4jServer

__all__ = ["conninfo", "postgres", "record"]

pytestmark = pytest.mark.anyio


COUNT: LiteralString = """
MATCH (n:Entity {group_id: $namespace}) WHERE n.record = $record
WITH count(CASE WHEN NOT n.value THEN 1 END) AS entities
OPTIONAL MATCH (s:Entity {group_id: $namespace})-[r:RELATES_TO]->() WHERE s.record = $record
UNWIND coalesce(r.fact_ids, [null]) AS fact
RETURN entities, count(DISTINCT fact) AS facts
"""


async def count_in_record(record: Record, namespace: str) -> tuple[int, int]:
    async with record.reader.view(namespace) as view:
        counts = await view.graph_counts()
    return counts["entities"], counts["facts"]


@dataclass(frozen=True)
class World:
    """A record, and a graph of it that `settle` brings up to date; `count` says how many entities and facts are in it."""

    record: Record
    graph: Graph
    settle: Callable[[], Awaitable[None]]
    count: Callable[[str], Awaitable[tuple[int, int]]]

    async def near(self, *names: str, hops: int = 1, as_of: str | None = None, limit: int = 50) -> set[UUID]:
        found = await self.graph.neighbours(
            "default",
            [id_of(name) for name in names],
            hops=hops,
            limit=limit,
            as_of=day(as_of) if as_of else None,
        )
        return {one.entity_id for one in found}

    async def named(self, query: str, *, namespace: str = "default", limit: int = 10) -> list[UUID]:
        return await self.graph.find_names(namespace, query, limit=limit)


@pytest.fixture(params=["record", pytest.param("neo4j", marks=pytest.mark.xdist_group("neo4j"))])
async def world(request: pytest.FixtureRequest, record: Record) -> AsyncGenerator[World]:
    async def nothing() -> None: ...

    if request.param == "record":
        yield World(
            record, RecordGraph(record.reader), nothing, lambda namespace: count_in_record(record, namespace)
        )
        return
    server: Neo4jServer = request.getfixturevalue("neo4j")
    await record.database.fetch_all("UPDATE identity SET record_id = gen_random_uuid() RETURNING 1")
    client = Neo4jClient.connect(
        server.uri,
        user=server.user,
        password=server.password,
        database="neo4j",
        breaker=CircuitBreaker("graph", Code.GRAPH_UNAVAILABLE, Health()),
    )
    record_id = (await record.index_log.identity()).record_id
    graph, projector = Neo4jGraph(client, record_id), Projector(record, client, record_id)

    async def settle() -> None:
        while await projector.run(pages=10):
            pass

    async def count(namespace: str) -> tuple[int, int]:
        (row,) = await client.read(COUNT, record=record_id.hex, namespace=namespace)
        return int(row["entities"]), int(row["facts"])

    await settle()
    yield World(record, graph, settle, count)
    await client.close()


async def test_whole_names_come_first_then_aliases_then_beginnings_then_words(world: World) -> None:
    await tell(
        world.record,
        "a",
        entity("Wien", "Place"),
        entity("Vienna", "Place", "Wien Hauptstadt"),
        entity("Wien Energie GmbH"),
        entity("Rathaus (Wien)"),
        entity("Donau City", "Organization", "Wien"),
        entity("Graz"),
    )
    await world.settle()
    found = await world.named("  WIEN. ")
    assert found[:3] == [id_of("Wien"), id_of("Donau City"), id_of("Wien Energie GmbH")]
    assert set(found[3:]) == {id_of("Vienna"), id_of("Rathaus (Wien)")}
    assert await world.named("wien", limit=2) == found[:2]


async def test_all_words_must_stand_in_one_name(world: World) -> None:
    await tell(world.record, "a", entity("Anna Maria Berg", "Person", "The Boss"), entity("Anna Stein"))
    await world.settle()
    assert await world.named("berg anna") == [id_of("Anna Maria Berg")]
    assert await world.named("anna boss") == []


async def test_parts_of_words_are_found_where_nothing_else_is(world: World) -> None:
    await tell(world.record, "a", entity("Northwind Traders"), entity("Southwind", "Thing", "Norwind"))
    await world.settle()
    assert set(await world.named("orthw")) == {id_of("Northwind Traders")}
    assert await world.named("wind traders x") == []


@pytest.mark.parametrize(
    "odd", ['A+B "C" (D)', "a/b:c*d?", "back\\slash", "x AND y", "[to] {z}~1^2", "Zürich-Süd"]
)
async def test_names_are_taken_literally(world: World, odd: str) -> None:
    await tell(world.record, "a", entity(odd), entity("other"))
    await world.settle()
    assert await world.named(odd) == [id_of(odd)]


@pytest.mark.parametrize("query", ["", "   ", '"."', "*", "?", "\\", "~"])
async def test_a_query_without_a_name_finds_nothing(world: World, query: str) -> None:
    await tell(world.record, "a", entity("Acme"))
    await world.settle()
    assert await world.named(query) == []


async def test_those_named_more_often_come_first(world: World) -> None:
    await tell(world.record, "a", entity("Berg One"), entity("Berg Two"))
    await tell(world.record, "b", entity("Berg Two"))
    await world.settle()
    assert await world.named("berg") == [id_of("Berg Two"), id_of("Berg One")]


async def test_neighbours_are_those_that_a_fact_joins_in_either_direction(world: World) -> None:
    await tell(
        world.record,
        "a",
        fact("Ann", "knows", "Bob"),
        fact("Cem", "knows", "Ann"),
        fact("Dan", "knows", "Eve"),
    )
    await world.settle()
    assert await world.near("Ann") == {id_of("Bob"), id_of("Cem")}
    assert await world.near("Ann", "Bob") == {id_of("Cem")}
    assert await world.near("Nobody") == set()


async def test_neighbours_say_how_far_they_are_and_by_which_facts(world: World) -> None:
    await tell(
        world.record,
        "a",
        fact("Ann", "knows", "Bob"),
        fact("Bob", "likes", "Ann"),
        fact("Bob", "knows", "Cem"),
        fact("Cem", "knows", "Dan"),
        fact("Dan", "knows", "Eve"),
    )
    await world.settle()
    near = await world.graph.neighbours("default", [id_of("Ann")], hops=3)
    assert [(one.entity_id, one.hops) for one in near] == [
        (id_of("Bob"), 1),
        (id_of("Cem"), 2),
        (id_of("Dan"), 3),
    ]
    assert [len(one.fact_ids) for one in near] == [2, 1, 1]
    assert near == await world.graph.neighbours("default", [id_of("Ann")], hops=9)
    stated = await world.record.database.fetch_all(
        "SELECT id FROM facts WHERE subject_id = %s", (id_of("Cem"),)
    )
    assert near[2].fact_ids == (stated[0]["id"],)


async def test_the_nearest_fill_the_limit_in_the_order_of_their_ids(world: World) -> None:
    names = [f"Friend {number}" for number in range(12)]
    await tell(
        world.record, "a", *[fact("Ann", "knows", name) for name in names], fact(names[0], "knows", "Far")
    )
    await world.settle()
    nearest = sorted(map(id_of, names))
    for limit in (0, 5, 12, 13):
        near = await world.graph.neighbours("default", [id_of("Ann")], hops=2, limit=limit)
        assert [one.entity_id for one in near] == [*nearest, id_of("Far")][:limit]


async def test_values_are_neither_near_nor_a_way(world: World) -> None:
    await tell(world.record, "a", fact("Ann", "earns", "5 million"), fact("Bob", "earns", "5 million"))
    await world.settle()
    assert await world.near("Ann", hops=3) == set()
    assert await world.named("5 million") == []
    assert await world.count("default") == (2, 2)


async def test_a_value_that_turns_out_to_be_an_entity_is_near(world: World) -> None:
    await tell(world.record, "a", fact("Ann", "wrote", "1984"))
    await world.settle()
    assert await world.near("Ann") == set()
    named = await tell(world.record, "b", entity("1984", "Work"))
    await world.settle()
    assert await world.near("Ann") == {id_of("1984")}
    await forget(world.record, [named])
    await world.settle()
    assert await world.near("Ann") == set()
    assert await world.named("1984") == []


async def test_nothing_of_another_namespace_is_seen_or_passed_through(world: World) -> None:
    await tell(world.record, "a", fact("Ann", "knows", "Bob"))
    await tell(world.record, "a", fact("Bob", "knows", "Cem"), namespace="other")
    await world.settle()
    assert await world.near("Ann", hops=3) == {id_of("Bob")}
    assert await world.named("cem") == []
    assert await world.named("bob", namespace="other") == [id_of("Bob", "other")]
    assert await world.graph.neighbours("default", [id_of("Bob", "other")], hops=3) == []
    assert await world.count("default") == (2, 1)
    assert await world.count("nowhere") == (0, 0)


async def test_a_new_version_takes_the_place_of_the_one_before(world: World) -> None:
    await tell(world.record, "a", fact("Ann", "knows", "Bob"))
    await world.settle()
    await tell(world.record, "a", fact("Ann", "knows", "Cem"))
    await world.settle()
    assert await world.near("Ann") == {id_of("Cem")}
    assert await world.named("bob") == []
    assert await world.count("default") == (2, 1)


async def test_forgetting_one_of_two_sources_leaves_what_the_other_says(world: World) -> None:
    first = await tell(world.record, "a", fact("Ann", "knows", "Bob"), fact("Ann", "knows", "Cem"))
    second = await tell(world.record, "b", fact("Ann", "knows", "Bob"))
    await world.settle()
    await forget(world.record, [first])
    await world.settle()
    assert await world.near("Ann") == {id_of("Bob")}
    await forget(world.record, [second])
    await world.settle()
    assert await world.near("Ann") == set()
    assert await world.named("ann") == []
    assert await world.count("default") == (0, 0)


async def test_a_forgotten_entity_is_neither_named_nor_near_nor_a_way_and_others_are(world: World) -> None:
    await tell(world.record, "a", fact("Ann", "knows", "Bob"), fact("Bob", "knows", "Cleo"))
    await tell(world.record, "b", fact("Ann", "works_at", "Acme Corp."))
    await tell(world.record, "c", fact("Bob", "works_at", "Acme Inc."))
    await world.settle()
    assert await world.near("Ann", hops=2) == {id_of(name) for name in ("Bob", "Cleo", "Acme Corp.")}
    assert await world.record.forgetting.forget_entity("default", id_of("Bob")) is not None
    await world.settle()
    assert await world.named("bob") == []
    assert await world.near("Ann", hops=3) == {id_of("Acme Corp.")}
    assert await world.record.forgetting.forget_entity("default", id_of("Acme Inc.")) is not None
    await world.settle()
    assert await world.near("Ann", hops=3) == set()
    assert await world.count("default") == (2, 0)


async def test_of_a_forgotten_document_and_a_forgotten_namespace_nothing_is_left(world: World) -> None:
    for namespace in ("default", "other"):
        await tell(world.record, "a", fact("Ann", "knows", "Bob"), namespace=namespace)
        await tell(world.record, "b", fact("Ann", "knows", "Cleo"), namespace=namespace)
    await world.settle()
    for selection in (
        Selection(namespace="default", keys=["a"]),
        Selection(namespace="other", whole=True),
    ):
        assert await world.record.forgetting.forget(selection) is not None
    await world.settle()
    assert await world.near("Ann") == {id_of("Cleo")}
    assert await world.count("other") == (0, 0)
    due = await world.record.purges.due()
    await world.record.purges.delete_rows([one.version_id for one in due])
    await world.record.purges.delete_documents(due)
    await world.settle()
    assert await world.near("Ann") == {id_of("Cleo")}
    assert (await world.count("default"), await world.count("other")) == ((2, 1), (0, 0))


async def test_linked_entities_are_one_under_the_id_that_came_first(world: World) -> None:
    await tell(
        world.record, "a", entity("ACME Corp.", "Organization"), fact("ACME Corp.", "makes", "Rockets")
    )
    await world.settle()
    await tell(world.record, "b", entity("Ann", "Person"), fact("ACME Corporation", "hired", "Ann"),
               entity("ACME Corporation", "Organization"))  # fmt: skip
    await world.settle()
    acme = id_of("ACME Corp.")
    assert await world.named("acme corporation") == await world.named("acme corp") == [acme]
    assert await world.near("Ann") == await world.near("Rockets") == {acme}
    assert await world.near("ACME Corp.") == {id_of("Rockets"), id_of("Ann")}
    assert await world.count("default") == (3, 2)


async def test_an_older_spelling_that_goes_leaves_the_younger_with_its_own(world: World) -> None:
    first = await tell(
        world.record, "a", entity("ACME Corp.", "Organization"), fact("ACME Corp.", "makes", "Rockets")
    )
    await tell(
        world.record,
        "b",
        entity("ACME Corporation", "Organization"),
        fact("ACME Corporation", "hired", "Ann"),
    )
    await world.settle()
    await forget(world.record, [first])
    await world.settle()
    younger = id_of("ACME Corporation")
    assert await world.named("acme") == [younger]
    assert await world.near("Ann") == {younger}
    assert await world.near("ACME Corporation") == {id_of("Ann")}
    assert await world.count("default") == (2, 1)


async def test_split_entities_have_their_own_facts_again_until_they_are_joined(world: World) -> None:
    await tell(
        world.record, "a", entity("ACME Corp.", "Organization"), fact("ACME Corp.", "makes", "Rockets")
    )
    await tell(
        world.record,
        "b",
        entity("ACME Corporation", "Organization"),
        fact("ACME Corporation", "hired", "Ann"),
    )
    await world.settle()
    older, younger = id_of("ACME Corp."), id_of("ACME Corporation")
    await world.record.splits.split("default", older, younger)
    await world.settle()
    assert await world.near("ACME Corp.") == {id_of("Rockets")}
    assert await world.near("ACME Corporation") == {id_of("Ann")}
    assert await world.near("Ann") == {younger}
    assert set(await world.named("acme")) == {older, younger}
    await world.record.splits.join("default", older, younger)
    await world.settle()
    assert await world.near("Ann") == {older}
    assert await world.named("acme") == [older]


async def test_a_fact_goes_on_while_what_ended_it_is_of_another_subject(world: World) -> None:
    job, left = (
        fact("Maria Gomez", "works_at", "Acme"),
        fact("Maria Lopez", "left", "her job", since="2024-03-01"),
    )
    await tell(world.record, "job", job, dated="2022-01-01")
    named = Extraction(entities=(entity("Maria Lopez", "Person", "Maria Gomez"),))
    await graphs.tell(world.record, "left", named, dated="2024-04-01", enrich=True)
    work = await graphs.begin(world.record)
    end = End(by_id=fact_id("default", left), ended_id=fact_id("default", job), at=day("2024-03-01"))
    enriched = Enriched(extraction=Extraction(entities=named.entities, facts=(left,)), ends=(end,))
    assert await world.record.enrichments.publish(work.version_id, work.claim, enriched)
    await world.settle()
    gomez, lopez = id_of("Maria Gomez"), id_of("Maria Lopez")
    assert await world.near("Acme", as_of="2024-02-01") == {gomez}
    assert await world.near("Acme", as_of="2024-12-31") == set()
    await world.record.splits.split("default", gomez, lopez)
    await world.settle()
    assert await world.near("Acme", as_of="2024-12-31") == {gomez}
    await world.record.splits.join("default", gomez, lopez)
    await world.settle()
    assert await world.near("Acme", as_of="2024-12-31") == set()


@pytest.mark.parametrize("older_first", [True, False])
async def test_a_fact_ends_where_the_next_one_of_its_kind_begins(world: World, older_first: bool) -> None:
    told = [
        ("2023-03-01", fact("Ann", "works_at", "Acme")),
        ("2024-06-01", fact("Ann", "works_at", "Globex", since="2024-05-01")),
    ]
    for dated, one in told if older_first else reversed(told):
        await tell(world.record, dated, one, dated=dated)
        await world.settle()
    assert await world.near("Ann", as_of="2023-12-31") == {id_of("Acme")}
    assert await world.near("Ann", as_of="2024-12-31") == {id_of("Globex")}
    assert await world.near("Acme", as_of="2024-12-31") == set()
    assert await world.near("Ann") == {id_of("Acme"), id_of("Globex")}
    assert await world.near("Acme", hops=2) == {id_of("Ann"), id_of("Globex")}


async def test_a_fact_goes_on_when_the_one_that_ended_it_goes(world: World) -> None:
    await tell(world.record, "a", fact("Ann", "works_at", "Acme"), dated="2023-03-01")
    later = await tell(world.record, "b", fact("Ann", "works_at", "Globex"), dated="2024-06-01")
    await world.settle()
    await forget(world.record, [later])
    await world.settle()
    assert await world.near("Ann", as_of="2024-12-31") == {id_of("Acme")}


async def test_said_times_hold_for_every_fact(world: World) -> None:
    await tell(world.record, "a", fact("Ann", "visited", "Rome", since="2020-01-01", until="2020-02-01"))
    await world.settle()
    assert await world.near("Ann", as_of="2019-12-31") == set()
    assert await world.near("Ann", as_of="2020-01-15") == {id_of("Rome")}
    assert await world.near("Ann", as_of="2020-02-01") == set()


async def test_the_same_fact_may_have_been_true_twice(world: World) -> None:
    for year, place in ((2020, "Acme"), (2021, "Globex"), (2022, "Acme")):
        await tell(world.record, str(year), fact("Ann", "works_at", place), dated=f"{year}-06-01")
    await world.settle()
    for year, place in ((2020, "Acme"), (2021, "Globex"), (2022, "Acme")):
        assert await world.near("Ann", as_of=f"{year}-12-31") == {id_of(place)}
    assert await world.count("default") == (3, 2)


async def test_both_graphs_answer_alike(world: World) -> None:
    """Whatever was committed, in whatever order: compared with the record."""
    random = Random(7)
    names = [f"Person {number}" for number in range(8)] + [
        "Initech Inc.",
        "Initech LLC",
        "Hooli",
        "Hooli GmbH",
    ]
    of_record = RecordGraph(world.record.reader)
    live: dict[str, UUID] = {}
    for step in range(20):
        key = f"note {random.randrange(9)}"
        if key in live and random.random() < 0.25:
            await forget(world.record, [live.pop(key)])
        else:
            live[key] = await tell(
                world.record,
                key,
                *[entity(name, "Organization") for name in names[8:] if random.random() < 0.3],
                *[
                    fact(
                        one, random.choice(["knows", "works_at", "owns"]), random.choice([*names, "7 apples"])
                    )
                    for one in random.sample(names, 3)
                ],
                dated=f"20{random.randrange(10, 25)}-0{random.randrange(1, 9)}-01",
            )
        if step % 4:
            continue
        await world.settle()
        for as_of in (None, day("2018-06-01")):
            for name in names:
                mine: list[Neighbour] = await world.graph.neighbours(
                    "default", await world.named(name, limit=1), hops=2, as_of=as_of
                )
                theirs = await of_record.neighbours(
                    "default", await of_record.find_names("default", name, limit=1), hops=2, as_of=as_of
                )
                assert mine == theirs
        assert await world.named("initech") == await of_record.find_names("default", "initech", limit=10)
        assert await world.count("default") == await count_in_record(world.record, "default")
