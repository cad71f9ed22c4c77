"""What differs between the record and its graph in Neo4j is named, mended, and gone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

import pytest

from apex_mcp.errors import Code
from apex_mcp.ingestion.projecting import Projector
from apex_mcp.ingestion.verifying import of_graph
from apex_mcp.ingestion.verifying.of_graph import ENTITIES, FACTS, OURS, PASSAGES, WHOSE, GraphVerifier
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.graph.neo4j_client import Neo4jClient
from apex_mcp.stores.graph.neo4j_inventory import Neo4jInventory
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record
from tests.record.conftest import conninfo, postgres, record
from tests.services.graph_notes import entity, fact, tell
from tests.services.neo4j_server import Neo4jServer
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record"]

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("neo4j")]


@dataclass(frozen=True)
class Memory:
    """A record whose graph is written in the background, and what compares the two."""

    record: Record
    record_id: UUID
    client: Neo4jClient
    verifier: GraphVerifier

    async def differing(self, *, repair: bool = False) -> dict[str, tuple[int, int]]:
        found = [one async for one in self.verifier.run(repair=repair)]
        return {one.what: (one.differs, one.left) for one in found if one.differs}

    async def change(self, query: LiteralString) -> None:
        await self.client.alone(query, record=self.record_id.hex)


@pytest.fixture
async def memory(record: Record, neo4j: Neo4jServer) -> AsyncGenerator[Memory]:
    await record.database.fetch_all("UPDATE identity SET record_id = gen_random_uuid() RETURNING 1")
    record_id = (await record.index_log.identity()).record_id
    breaker = CircuitBreaker("graph", Code.GRAPH_UNAVAILABLE, Health())
    client = Neo4jClient.connect(
        neo4j.uri, user=neo4j.user, password=neo4j.password, database="neo4j", breaker=breaker
    )
    projector = Projector(record, client, record_id)

    async def project() -> None:
        while True:
            if not (await projector.has_work() and await projector.run(pages=10)):
                await asyncio.sleep(0.05)

    projecting = asyncio.create_task(project())
    yield Memory(record, record_id, client, GraphVerifier(record, Neo4jInventory(client, record_id)))
    projecting.cancel()
    with suppress(asyncio.CancelledError):
        await projecting
    await client.close()


async def tell_of_many(record: Record) -> None:
    """Links, values, an end of a fact, a second version, another namespace."""
    await tell(
        record,
        "one",
        entity("ACME Corp.", "Organization"),
        fact("Ann", "works_at", "ACME Corp.", since="2020-01-01"),
    )
    await tell(record, "two", entity("ACME", "Organization"), fact("ACME", "revenue", "4 million"))
    await tell(
        record,
        "three",
        entity("Initech", "Organization"),
        fact("Ann", "works_at", "Initech", since="2023-01-01"),
    )
    await tell(record, "four", fact("Bob", "knows", "Ann"))
    await tell(record, "four", fact("Bob", "knows", "Cyd"))
    await tell(record, "five", fact("Bob", "knows", "Ann"), namespace="other")


@pytest.mark.parametrize("page", [500, 2])
async def test_a_graph_that_was_told_of_everything_is_clean(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(of_graph, "_IDS_AT_ONCE", page)
    await tell_of_many(memory.record)
    found = {one.what: one for one in [one async for one in memory.verifier.run(repair=False)]}
    assert [one for one in found.values() if one.differs or one.left] == []
    assert {what: one.compared for what, one in found.items()} == {
        OURS: 18,
        WHOSE: 1,
        ENTITIES: 8,
        FACTS: 5,
        PASSAGES: 5,
    }


SPOILT: list[tuple[LiteralString, str]] = [
    ("MATCH (n:Entity {record: $record, name: 'Ann'}) SET n.mentions = 99", ENTITIES),
    ("MATCH (n:Entity {record: $record, name: 'Cyd'}) DETACH DELETE n", ENTITIES),
    (
        "CREATE (:Entity {record: $record, uuid: randomUUID(), group_id: 'default', name: 'x', type: 'y', value: false, "
        "mentions: 1, members: []})",
        ENTITIES,
    ),
    (
        "MATCH (:Entity {record: $record, name: 'Bob'})-[r:RELATES_TO]->() WHERE r.group_id = 'default' DELETE r",
        FACTS,
    ),
    (
        "MATCH (a:Entity {record: $record, name: 'Bob'}), (b:Entity {record: $record, name: 'Initech'}) "
        "WHERE a.group_id = b.group_id CREATE (a)-[:RELATES_TO {name: 'owns', fact_ids: [], group_id: 'default'}]->(b)",
        FACTS,
    ),
    ("MATCH (:Entity {record: $record, name: 'Bob'})-[r:RELATES_TO]->() SET r.fact = 'x'", FACTS),
    ("MATCH (:Entity {record: $record, name: 'Bob'})-[r:RELATES_TO]->() SET r.fact = ['x']", FACTS),
    ("MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' DETACH DELETE e", PASSAGES),
    ("MATCH (e:Episodic {record: $record})-[m:MENTIONS]->() DELETE m", PASSAGES),
    ("MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' SET e.content = 'x'", PASSAGES),
    (
        "MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' SET e.content = reverse(e.content)",
        PASSAGES,
    ),
    ("MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' REMOVE e.content", PASSAGES),
    ("MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' SET e.content = ['x']", PASSAGES),
    ("CREATE (:Episodic {record: $record, uuid: randomUUID(), group_id: 'gone', name: 'x'})", PASSAGES),
]


@pytest.mark.parametrize(("spoil", "what"), SPOILT)
async def test_what_the_graph_has_or_lacks_is_named_and_mended(
    memory: Memory, spoil: LiteralString, what: str
) -> None:
    await tell_of_many(memory.record)
    assert await memory.differing() == {}
    await memory.change(spoil)
    assert what in await memory.differing()
    mended = await memory.differing(repair=True)
    assert what in mended
    assert sum(left for _, left in mended.values()) == 0
    assert await memory.differing() == {}


# One that Graphiti's own tools write, and one for each property that may be missing, or of another kind.
FOREIGN: list[LiteralString] = [
    "MATCH (a:Entity {record: $record, name: 'Bob'}), (b:Entity {record: $record, name: 'Initech'}) "
    "WHERE a.group_id = b.group_id CREATE (a)-[:RELATES_TO {uuid: randomUUID(), name: 'KNOWS', fact: 'x', "
    "group_id: a.group_id, episodes: []}]->(b)",
    "MATCH (a:Entity {record: $record, name: 'Bob', group_id: 'other'}) CREATE (a)-[:RELATES_TO]->(:Entity)",
    "MATCH (a:Entity {record: $record, name: 'Bob', group_id: 'other'}) "
    "CREATE (a)-[:RELATES_TO {name: ['x'], fact_ids: []}]->(a)",
    "MATCH (:Entity {record: $record})-[r:RELATES_TO {name: 'revenue'}]->() SET r.fact_ids = 5",
    "MATCH (:Entity {record: $record})-[r:RELATES_TO {name: 'revenue'}]->() SET r.invalid_at = 'soon'",
    "MATCH (:Entity {record: $record})-[r:RELATES_TO {name: 'revenue'}]->() REMOVE r.name",
    "MATCH (n:Entity {record: $record, name: 'Cyd'}) REMOVE n.uuid",
    "MATCH (n:Entity {record: $record, name: 'Cyd'}) SET n.uuid = toUpper(n.uuid)",
    "MATCH (n:Entity {record: $record, name: 'Cyd'}) SET n.uuid = 5",
    "MATCH (n:Entity {record: $record, name: 'Cyd'}) REMOVE n.group_id",
    "MATCH (n:Entity {record: $record, name: 'Cyd'}) REMOVE n.members",
    "MATCH (n:Entity {record: $record, name: 'Cyd'}) SET n.members = 5",
    "MATCH (n:Entity {record: $record, name: 'Cyd'}) SET n.members = ['x']",
    "CREATE (:Entity {record: $record})",
    "CREATE (:Episodic {record: $record, uuid: [1, 2]})",
    "MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' REMOVE e.group_id",
    "MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' SET e.uuid = 'x'",
]


@pytest.mark.parametrize("spoil", FOREIGN)
async def test_what_is_not_as_anything_is_written_is_named_and_removed(
    memory: Memory, spoil: LiteralString
) -> None:
    await tell_of_many(memory.record)
    assert await memory.differing() == {}
    await memory.change(spoil)
    found, left = (await memory.differing())[OURS]
    assert found == left > 0
    mended = await memory.differing(repair=True)
    assert mended[OURS] == (found, 0)
    assert sum(left for _, left in mended.values()) == 0
    assert await memory.differing() == {}


async def test_a_mention_of_what_has_no_id_is_a_difference_of_its_passage(memory: Memory) -> None:
    await tell_of_many(memory.record)
    assert await memory.differing() == {}
    await memory.change(
        "MATCH (e:Episodic {record: $record}) WHERE e.group_id = 'other' "
        "CREATE (e)-[:MENTIONS]->(:Entity {name: 'x'}), (e)-[:MENTIONS]->(:Entity {uuid: 5})"
    )
    assert await memory.differing(repair=True) == {PASSAGES: (1, 0)}
    assert await memory.differing() == {}


async def test_what_carries_another_group_or_not_the_records_mark_is_somebody_elses_and_stays(
    memory: Memory,
) -> None:
    await tell_of_many(memory.record)
    assert await memory.differing() == {}
    await memory.change(
        "MATCH (a:Entity {record: $record, name: 'Bob', group_id: 'other'}) "
        "CREATE (a)-[:RELATES_TO {name: 'KNOWS', group_id: 'theirs' + $record}]->(a), "
        "(:Entity {group_id: 'other', theirs: $record})-[:RELATES_TO {name: 'KNOWS', group_id: 'other'}]->(a)"
    )
    assert await memory.differing(repair=True) == {}
    assert await memory.verifier.remove_orphans() == 0
    left = await memory.client.read(
        "MATCH ()-[r:RELATES_TO {name: 'KNOWS'}]->(:Entity {record: $record}) RETURN count(r) AS number",
        record=memory.record_id.hex,
    )
    assert left == [{"number": 2}]


async def test_maintenance_passes_over_what_has_no_id(memory: Memory) -> None:
    await tell_of_many(memory.record)
    assert await memory.differing() == {}
    await memory.change(
        "CREATE (:Entity {record: $record, uuid: 'x'}), (:Episodic {record: $record, uuid: 'x'}), "
        "(:Episodic {record: $record, uuid: randomUUID(), group_id: 'gone', name: 'x'})"
    )
    assert await memory.verifier.remove_orphans() == 1


async def test_a_graph_that_was_emptied_is_written_anew(memory: Memory) -> None:
    await tell_of_many(memory.record)
    assert await memory.differing() == {}
    await memory.change("MATCH (n) WHERE n.record = $record DETACH DELETE n")
    assert await memory.differing() == {WHOSE: (1, 1)}
    assert await memory.differing(repair=True) == {WHOSE: (1, 0)}
    assert await memory.differing() == {}


async def told_of_everything(record: Record) -> bool:
    return await record.graph_queue.waiting() == 0


async def test_nothing_differs_while_facts_come_and_go(memory: Memory) -> None:
    stop = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stop.is_set():
            await tell(memory.record, f"note{number % 4}", fact("Ann", "knows", f"Person{number % 7}"))
            number += 1
            # No quicker than the graph can be told, on whatever machine.
            await eventually(lambda: told_of_everything(memory.record))
            await asyncio.sleep(0.05)

    writing = asyncio.create_task(write())
    for _ in range(4):
        assert await memory.differing() == {}
    stop.set()
    await writing
    assert await memory.differing() == {}
