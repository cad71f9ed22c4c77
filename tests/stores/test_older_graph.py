"""A Neo4j that comes back with an older state of the graph: nothing is read from it, and it is written anew."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from apex_mcp.errors import Unavailable
from apex_mcp.ingestion.verifying.of_graph import WHOSE, GraphVerifier
from apex_mcp.stores.graph.neo4j_inventory import Neo4jInventory
from apex_mcp.stores.graph.neo4j_writing import GraphPage, Neo4jWriter
from apex_mcp.stores.record import Record
from tests.record.conftest import conninfo, postgres, record
from tests.services.graph_notes import fact, forget, id_of, tell
from tests.services.neo4j_server import Neo4jProcess, lacking, own_server
from tests.stores.test_neo4j_graph import Memory, connect, opened
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record"]

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(bool(lacking()), reason=lacking())]


@pytest.fixture
def server(tmp_path: Path) -> Generator[Neo4jProcess]:
    with own_server(tmp_path) as running:
        yield running


async def before_the_last_changes(record: Record, server: Neo4jProcess, folder: Path) -> Memory:
    """A memory that learnt something and forgot something, on a Neo4j whose data are those from before that."""
    client = connect(server.uri, server.user, server.password)
    memory = await opened(record, client)
    forgotten = await tell(record, "a", fact("Ann", "knows", "Bob"))
    await memory.settle()
    server.kill()
    shutil.copytree(folder / "data", folder / "copy")
    server.start()
    await eventually(lambda: answers(memory))
    await tell(record, "b", fact("Ann", "knows", "Cem"))
    await forget(record, [forgotten])
    await memory.settle()
    assert await memory.best.find_names("default", "bob", limit=5) == ([], [])
    server.kill()
    shutil.rmtree(folder / "data")
    shutil.copytree(folder / "copy", folder / "data")
    server.start()
    await eventually(lambda: answers(memory))
    return memory


async def answers(memory: Memory) -> bool:
    return await memory.best.lacks() is None


async def known(memory: Memory) -> list[str]:
    nodes = await memory.ask("MATCH (n:Entity {record: $record}) RETURN n.name AS name ORDER BY name")
    return [node["name"] for node in nodes]


async def test_an_older_graph_is_not_read_and_is_written_anew(
    record: Record, server: Neo4jProcess, tmp_path: Path
) -> None:
    memory = await before_the_last_changes(record, server, tmp_path)
    assert await known(memory) == ["Ann", "Bob"]
    assert await memory.best.find_names("default", "bob", limit=5) == ([], [])
    assert await memory.best.find_names("default", "cem", limit=5) == ([id_of("Cem")], [])
    await memory.settle()
    assert await known(memory) == ["Ann", "Cem"]
    assert await memory.best.find_names("default", "cem", limit=5) == ([id_of("Cem")], [])
    await memory.client.close()


async def test_an_older_graph_is_found_by_verify_and_by_whoever_writes_next(
    record: Record, server: Neo4jProcess, tmp_path: Path
) -> None:
    memory = await before_the_last_changes(record, server, tmp_path)
    verifier = GraphVerifier(record, Neo4jInventory(memory.client, memory.record_id), settled_seconds=1)
    findings = {one.what: one async for one in verifier.run(repair=False)}
    assert findings[WHOSE].differs == 1
    await tell(record, "c", fact("Ann", "knows", "Dan"))
    await memory.settle()
    assert await known(memory) == ["Ann", "Cem", "Dan"]
    await memory.client.close()


async def test_a_writer_under_whom_an_older_graph_was_put_back_changes_nothing(
    record: Record, server: Neo4jProcess
) -> None:
    client = connect(server.uri, server.user, server.password)
    memory = await opened(record, client)
    await tell(record, "a", fact("Ann", "knows", "Bob"))
    mark = await record.graph_queue.mark()
    assert mark is not None
    writer = Neo4jWriter(client, memory.record_id)
    turn = await writer.take_turn(mark)
    assert turn is not None
    following = await writer.write(GraphPage(namespace="default"), turn)
    await memory.client.alone(
        "MATCH (m:ApexGraph {record: $record}) SET m.told = m.told - 1", record=memory.record_id.hex
    )
    with pytest.raises(Unavailable):
        await writer.write(GraphPage(namespace="default", gone=[id_of("Ann")]), following)
    await client.close()


async def test_a_process_that_ended_between_the_graph_and_the_record_is_gone_on_with(
    record: Record, server: Neo4jProcess
) -> None:
    client = connect(server.uri, server.user, server.password)
    memory = await opened(record, client)
    await tell(record, "a", fact("Ann", "knows", "Bob"))
    await memory.settle()
    mark = await record.graph_queue.mark()
    assert mark is not None
    writer = Neo4jWriter(client, memory.record_id)
    turn = await writer.take_turn(mark)
    assert turn is not None
    await writer.write(GraphPage(namespace="default"), turn)
    await tell(record, "b", fact("Ann", "knows", "Cem"))
    await memory.settle()
    now = await record.graph_queue.mark()
    assert now is not None
    assert (now.token, now.told > mark.told + 1) == (mark.token, True)
    assert await known(memory) == ["Ann", "Bob", "Cem"]
    await client.close()
