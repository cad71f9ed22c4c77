"""What Neo4j holds besides: Graphiti's shape, whose graph it is, and what happens when it is away."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.projecting import Projector
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.graph.best import DEGRADED, BestGraph
from apex_mcp.stores.graph.neo4j_client import Neo4jClient
from apex_mcp.stores.graph.neo4j_graph import Neo4jGraph
from apex_mcp.stores.graph.neo4j_schema import ensure_vector_index
from apex_mcp.stores.graph.neo4j_writing import GraphPage, Neo4jWriter
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.graph_changes import GraphMark
from apex_mcp.stores.vectors.packing import pack
from tests.record.conftest import conninfo, postgres, record
from tests.record.graphs import keep_vectors
from tests.services.graph_notes import day, entity, fact, forget, id_of, tell
from tests.services.neo4j_server import Neo4jServer, free_port

__all__ = ["conninfo", "postgres", "record"]

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("neo4j")]


def connect(uri: str, user: str, password: str, database: str = "neo4j") -> Neo4jClient:
    breaker = CircuitBreaker("graph", Code.GRAPH_UNAVAILABLE, Health())
    return Neo4jClient.connect(uri, user=user, password=password, database=database, breaker=breaker)


@dataclass(frozen=True)
class Memory:
    record: Record
    record_id: UUID
    client: Neo4jClient
    projector: Projector
    best: BestGraph

    async def settle(self) -> None:
        while await self.projector.run(pages=10):
            pass

    async def ask(self, query: LiteralString, **params: Any) -> list[dict[str, Any]]:
        return await self.client.read(query, record=self.record_id.hex, **params)

    async def node(self, name: str) -> dict[str, Any]:
        (found,) = await self.ask(
            "MATCH (n:Entity {record: $record, uuid: $id}) RETURN properties(n) AS n, labels(n) AS labels",
            id=str(id_of(name)),
        )
        return {**found["n"], "labels": found["labels"]}


async def opened(record: Record, client: Neo4jClient) -> Memory:
    await record.database.fetch_all("UPDATE identity SET record_id = gen_random_uuid() RETURNING 1")
    record_id = (await record.index_log.identity()).record_id
    best = BestGraph(RecordGraph(record.reader), record.graph_queue, Neo4jGraph(client, record_id))
    memory = Memory(record, record_id, client, Projector(record, client, record_id), best)
    await memory.settle()
    return memory


@pytest.fixture
async def memory(record: Record, neo4j: Neo4jServer) -> AsyncGenerator[Memory]:
    client = connect(neo4j.uri, neo4j.user, neo4j.password)
    yield await opened(record, client)
    await client.close()


async def test_graphiti_reads_entities_episodes_and_relations(memory: Memory, neo4j: Neo4jServer) -> None:
    from graphiti_core.driver.neo4j_driver import Neo4jDriver
    from graphiti_core.edges import EntityEdge
    from graphiti_core.nodes import EntityNode, EpisodicNode

    space = f"space-{memory.record_id.hex}"
    await tell(
        memory.record,
        "letter",
        entity("Ann Berg", "Person", "Annie"),
        entity("Acme", "Organization"),
        fact("Ann Berg", "works_at", "Acme", since="2023-03-01", until="2024-05-01"),
        namespace=space,
        dated="2024-06-01",
    )
    await memory.settle()
    driver = Neo4jDriver(neo4j.uri, neo4j.user, neo4j.password)
    try:
        nodes = {node.name: node for node in await EntityNode.get_by_group_ids(driver, [space])}
        (edge,) = await EntityEdge.get_by_group_ids(driver, [space])
        (episode,) = await EpisodicNode.get_by_group_ids(driver, [space])
        (mentioned,) = await EpisodicNode.get_by_entity_node_uuid(driver, nodes["Acme"].uuid)
    finally:
        await driver.close()
    ann, acme = nodes["Ann Berg"], nodes["Acme"]
    assert (ann.uuid, sorted(ann.labels), ann.summary) == (
        str(id_of("Ann Berg", space)), ["Entity", "Person"], "Person, also named Annie",
    )  # fmt: skip
    assert (edge.name, edge.fact) == ("works_at", "Ann Berg works at Acme.")
    assert (edge.source_node_uuid, edge.target_node_uuid) == (ann.uuid, acme.uuid)
    assert (edge.valid_at, edge.invalid_at) == (day("2023-03-01"), day("2024-05-01"))
    assert edge.expired_at is not None
    assert edge.episodes == [episode.uuid]
    assert episode.entity_edges == [edge.uuid]
    assert episode.content.startswith("letter: Ann Berg works at Acme.")
    assert episode.valid_at == day("2024-06-01")
    assert mentioned.uuid == episode.uuid


async def test_a_relation_of_an_undated_text_has_no_time_but_what_is_read_as_of_one_begins(
    memory: Memory,
) -> None:
    said = entity("Ann Berg", "Person"), entity("Acme", "Organization"), fact("Ann Berg", "ceo_of", "Acme")
    await tell(memory.record, "letter", *said)
    await memory.settle()
    found = await memory.ask(
        "MATCH (:Entity {record: $record})-[r:RELATES_TO {name: 'ceo_of'}]->() "
        "RETURN r.valid_at IS NULL AS undated, r.begins IS NOT NULL AS begun"
    )
    assert found == [{"undated": True, "begun": True}]


async def test_vectors_of_names_that_come_after_the_commit_are_searched_as_graphiti_does(
    memory: Memory, neo4j: Neo4jServer
) -> None:
    from graphiti_core.driver.neo4j_driver import Neo4jDriver
    from graphiti_core.search.search_filters import SearchFilters
    from graphiti_core.search.search_utils import node_similarity_search

    space = f"space-{memory.record_id.hex}"
    await tell(memory.record, "a", entity("Rocket"), entity("Missile"), entity("Tulip"), namespace=space)
    await memory.settle()
    await memory.record.index_log.set_embedder("three numbers")
    vectors = {"Rocket": [1.0, 0.1, 0.0], "Missile": [0.9, 0.3, 0.0], "Tulip": [0.0, 0.0, 1.0]}
    packed = {id_of(name, space): pack(vector) for name, vector in vectors.items()}
    await keep_vectors(memory.record, "three numbers", packed, space)
    assert await memory.projector.has_work()
    # Of memories of other tests: the index would be left to them.
    await memory.client.alone("MATCH (n:Entity) WHERE n.record <> $record REMOVE n.name_embedding", record="")
    await memory.settle()
    driver = Neo4jDriver(neo4j.uri, neo4j.user, neo4j.password)
    try:
        near = await node_similarity_search(
            driver, [1.0, 0.0, 0.0], SearchFilters(), group_ids=[space], limit=5, min_score=0.6
        )
    finally:
        await driver.close()
    assert [node.name for node in near] == ["Rocket", "Missile"]
    by_index = await memory.ask(
        "CALL db.index.vector.queryNodes('entity_name_embedding', 3, $vector) YIELD node AS n, score "
        "WHERE n.record = $record RETURN n.name AS name ORDER BY score DESC",
        vector=[1.0, 0.0, 0.0],
    )
    assert [row["name"] for row in by_index] == ["Rocket", "Missile", "Tulip"]

    # Another memory, whose vectors are longer, leaves the index alone; the same one may have another embedder by now.
    for owner, dimension in ((uuid4().hex, 3), (memory.record_id.hex, 4)):
        await ensure_vector_index(memory.client, 4, record=owner)
        (index,) = await memory.ask(
            "SHOW VECTOR INDEXES YIELD name, options WHERE name = 'entity_name_embedding' "
            "RETURN options.indexConfig['vector.dimensions'] AS dimension"
        )
        assert index["dimension"] == dimension


@pytest.mark.parametrize(
    ("type_", "labels"),
    [
        ("Person", ["Entity", "Person"]),
        ("Legal_Entity2", ["Entity", "Legal_Entity2"]),
        ("Legal entity", ["Entity"]),
        ("X`) DETACH DELETE n //", ["Entity"]),
        ("Größe", ["Entity"]),
        ("Episodic", ["Entity"]),
        ("ApexGraph", ["Entity"]),
        ("Value", ["Entity"]),
    ],
)
async def test_a_type_is_a_label_only_where_it_can_be_one(
    memory: Memory, type_: str, labels: list[str]
) -> None:
    await tell(memory.record, "a", entity("Ann", type_))
    await memory.settle()
    node = await memory.node("Ann")
    assert (sorted(node["labels"]), node["type"]) == (labels, type_)


async def test_a_changed_type_takes_the_old_label_away(memory: Memory) -> None:
    await tell(memory.record, "a", entity("Ann", "Person"))
    await memory.settle()
    await tell(memory.record, "a", entity("Ann", "Organization"))
    await memory.settle()
    assert sorted((await memory.node("Ann"))["labels"]) == ["Entity", "Organization"]


async def test_a_plain_value_is_an_entity_of_type_value_while_a_fact_needs_it(memory: Memory) -> None:
    told = await tell(memory.record, "a", fact("Ann", "earns", "5 million"))
    await memory.settle()
    node = await memory.node("5 million")
    assert (node["name"], sorted(node["labels"]), node["group_id"]) == (
        "5 million",
        ["Entity", "Value"],
        "default",
    )
    await forget(memory.record, [told])
    await memory.settle()
    assert await memory.ask("MATCH (n {record: $record}) WHERE NOT n:ApexGraph RETURN n") == []


async def test_an_emptied_graph_is_written_again_and_the_record_answers_meanwhile(memory: Memory) -> None:
    await tell(memory.record, "a", fact("Ann", "knows", "Bob"))
    await memory.settle()
    before = await memory.best.neighbours("default", [id_of("Ann")])
    await memory.client.alone("MATCH (n {record: $record}) DETACH DELETE n", record=memory.record_id.hex)
    assert await memory.best.neighbours("default", [id_of("Ann")]) == before
    assert await memory.projector.has_work()
    await memory.settle()
    assert await memory.ask("MATCH (:Entity {record: $record})-[r:RELATES_TO]->() RETURN r.name AS name") == [
        {"name": "knows"}
    ]
    assert await memory.best.neighbours("default", [id_of("Ann")]) == before


async def test_a_graph_that_is_not_this_records_state_is_written_again(memory: Memory) -> None:
    await tell(memory.record, "a", fact("Ann", "knows", "Bob"))
    await memory.settle()
    await memory.client.alone(
        "MATCH (m:ApexGraph {record: $record}) SET m.token = 'of a backup' "
        "CREATE (:Entity {record: $record, uuid: 'stale', group_id: 'default', value: false})",
        record=memory.record_id.hex,
    )
    await memory.settle()
    assert await memory.ask("MATCH (n:Entity {record: $record, uuid: 'stale'}) RETURN n") == []
    assert await memory.ask("MATCH (n:Entity {record: $record}) RETURN count(n) AS n") == [{"n": 2}]


async def test_another_records_graph_in_the_same_database_is_left_alone(memory: Memory) -> None:
    await tell(memory.record, "a", fact("Ann", "knows", "Bob"))
    await memory.settle()
    other = Neo4jWriter(memory.client, UUID(int=memory.record_id.int ^ 1))
    await other.mark("theirs")
    await other.clear()
    assert await memory.ask("MATCH (n:Entity {record: $record}) RETURN count(n) AS n") == [{"n": 2}]


async def test_nothing_is_noted_before_there_is_a_graph_nor_after(record: Record) -> None:
    await tell(record, "a", fact("Ann", "knows", "Bob"))
    assert await record.graph_queue.waiting() == 0
    await record.graph_queue.begin("graph")
    await tell(record, "b", fact("Ann", "knows", "Cem"))
    assert await record.graph_queue.waiting() > 0
    # Nor is it asked about a namespace of which nothing waits, until it was told something: it may hold another graph yet.
    for namespace in ("default", "empty"):
        assert await record.graph_queue.complete_for(namespace) is None
    mark = GraphMark("graph", told=1)
    await record.graph_queue.done(await record.graph_queue.take(1), mark)
    assert await record.graph_queue.complete_for("default") is None
    assert await record.graph_queue.complete_for("empty") == mark
    await record.graph_queue.end()
    assert await record.graph_queue.waiting() == 0


async def test_a_writer_that_was_replaced_changes_nothing(memory: Memory) -> None:
    mark = await memory.record.graph_queue.mark()
    assert mark is not None
    writer = Neo4jWriter(memory.client, memory.record_id)
    paused = await writer.take_turn(mark)
    assert paused is not None
    await tell(memory.record, "a", entity("Ann"))
    await memory.settle()
    with pytest.raises(Unavailable) as refused:
        await writer.write(GraphPage(namespace="default", gone=[id_of("Ann")]), paused)
    assert refused.value.code == Code.GRAPH_UNAVAILABLE
    assert (await memory.node("Ann"))["name"] == "Ann"


async def test_while_changes_wait_the_record_answers(memory: Memory) -> None:
    await tell(memory.record, "a", fact("Ann", "knows", "Bob"))
    near, lacks = await memory.best.neighbours("default", [id_of("Ann")])
    assert ([one.entity_id for one in near], lacks) == ([id_of("Bob")], [])
    found, lacks = await memory.best.find_names("default", "bob", limit=5)
    assert (found, lacks) == ([id_of("Bob")], [])


async def test_a_step_that_is_repeated_changes_nothing(memory: Memory) -> None:
    await tell(
        memory.record, "a", entity("ACME Corp.", "Organization"), fact("ACME Corp.", "makes", "Rockets")
    )
    await memory.settle()
    everything: LiteralString = (
        "MATCH (n {record: $record}) WHERE NOT n:ApexGraph OPTIONAL MATCH (n)-[r]->(m) "
        "RETURN properties(n) AS n, properties(r) AS r, m.uuid AS m ORDER BY n.uuid, r.uuid"
    )
    before = await memory.ask(everything)
    await memory.record.graph_queue.put_everything()
    await memory.settle()
    assert await memory.ask(everything) == before


async def test_a_server_that_is_away_is_named_and_the_record_answers(record: Record) -> None:
    client = connect(f"bolt://127.0.0.1:{free_port()}", "neo4j", "secret")
    best = BestGraph(RecordGraph(record.reader), record.graph_queue, Neo4jGraph(client, UUID(int=1)))
    await record.graph_queue.begin("graph")
    await record.graph_queue.done(await record.graph_queue.take(10), GraphMark("graph", told=1))
    try:
        assert await best.find_names("default", "ann", limit=5) == ([], [DEGRADED])
        # Also while something waits for it: what it would not be asked for anyway, it could not answer either.
        await tell(record, "a", fact("Ann", "knows", "Bob"))
        near, lacks = await best.neighbours("default", [id_of("Ann")])
        assert ([one.entity_id for one in near], lacks) == ([id_of("Bob")], [DEGRADED])
        assert await best.lacks()
        # What was known at a past time is the record's to say in any case.
        assert (await best.neighbours("default", [id_of("Ann")], known_at=day("2024-01-01")))[1] == []
        with pytest.raises(Unavailable) as away:
            await client.verify()
        assert away.value.code == Code.GRAPH_UNAVAILABLE
        with pytest.raises(Unavailable):
            await Projector(record, client, UUID(int=1)).run(pages=1)
    finally:
        await client.close()


async def test_a_wrong_password_and_a_wrong_database_are_refused_by_the_settings_name(
    neo4j: Neo4jServer,
) -> None:
    for client, setting in (
        (connect(neo4j.uri, neo4j.user, "wrong"), "APEX_NEO4J_PASSWORD"),
        (connect(neo4j.uri, neo4j.user, neo4j.password, "nowhere"), "APEX_NEO4J_DATABASE"),
    ):
        with pytest.raises(Rejected) as refused:
            await client.verify()
        assert refused.value.code == Code.SETTINGS_INVALID
        assert setting in str(refused.value)
        await client.close()


@pytest.mark.parametrize("uri", ["http://localhost:7474", "bolt://localhost:99999", "bolt://", "localhost"])
def test_an_address_that_is_none_of_neo4j_is_refused(uri: str) -> None:
    with pytest.raises(Rejected, match="APEX_NEO4J_URI"):
        connect(uri, "neo4j", "secret")


async def test_commits_while_the_graph_is_written_are_in_it_in_the_end(memory: Memory) -> None:
    async def write() -> None:
        for number in range(12):
            await tell(memory.record, f"note {number}", fact("Ann", "knows", f"Friend {number}"))

    await memory.record.graph_queue.end()
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write())
        while not writing.done():
            await memory.projector.run(pages=1)
    await memory.settle()
    assert await memory.best.neighbours("default", [id_of("Ann")]) == (
        await RecordGraph(memory.record.reader).neighbours("default", [id_of("Ann")]), [],
    )  # fmt: skip
    assert await memory.ask("MATCH (n:Entity {record: $record}) RETURN count(n) AS n") == [{"n": 13}]


@pytest.mark.parametrize("order", [("2022", "2024"), ("2024", "2022")])
async def test_a_new_chief_ends_the_old_ones_edge_whichever_comes_first(
    memory: Memory, order: tuple[str, str]
) -> None:
    people = {"2022": "Ann Berg", "2024": "Bob Ray"}
    for year in order:
        await tell(memory.record, year, fact(people[year], "ceo_of", "Acme"), dated=f"{year}-01-01")
        await memory.settle()
    found = await memory.ask(
        "MATCH (p:Entity {record: $record})-[r:RELATES_TO {name: 'ceo_of'}]->() "
        "RETURN p.name AS name, r.invalid_at IS NULL AS current ORDER BY name"
    )
    assert found == [{"name": "Ann Berg", "current": False}, {"name": "Bob Ray", "current": True}]
