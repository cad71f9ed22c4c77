"""Clients over stdio: what an assistant does all day, and what happens when the ground goes away under it."""

import json
import socket
from contextlib import AsyncExitStack
from typing import Any

import anyio
import psutil
import pytest

from apex_mcp.runtime.home import DataFolder
from tests.e2e.demo import DEMO, every_demo_file_goes_in_and_answers_its_question, sentence, word
from tests.e2e.homes import ERAS, Home, Session, kill_all, session
from tests.ingestion.documents import make_docx
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

INGESTIONS = 50
CLIENTS = 3


@pytest.mark.parametrize("era", ERAS)
async def test_every_demo_file_goes_in_and_answers_its_question(shared_home: Home, era: str) -> None:
    namespace = f"demo-{era}"
    async with session(shared_home.reading(DEMO, namespace=namespace), era) as client:
        await every_demo_file_goes_in_and_answers_its_question(client, namespace)


async def test_three_clients_share_one_memory(shared_home: Home) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session(shared_home)) for _ in range(CLIENTS)]
        async with anyio.create_task_group() as tasks:
            for number, client in enumerate(clients):
                tasks.start_soon(_remember, client, f"Client {number} likes the herb lovage.", "shared")
        for client in clients:
            assert len(await client.hits("lovage", namespace="shared")) == CLIENTS


async def test_ingestions_and_sessions_outlive_a_killed_daemon(home: Home) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session(home)) for _ in range(CLIENTS)]
        ended: dict[int, dict[str, Any]] = {}

        async def ingest(number: int) -> None:
            client = clients[number % CLIENTS]
            ended[number] = await client.ended("ingest_document", **_document(home, number))

        async def kill_in_the_middle() -> None:
            await eventually(lambda: _accepted(home) >= INGESTIONS // 5)
            daemon = home.daemon()
            daemon.kill()
            daemon.wait()

        await clients[0].call("get_stats")  # the daemon and its database are there
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill_in_the_middle)
            for number in range(INGESTIONS):
                tasks.start_soon(ingest, number)

        assert {number: view["state"] for number, view in ended.items()} == dict.fromkeys(
            range(INGESTIONS), "ready"
        )
        for number in range(INGESTIONS):
            hits = await clients[(number + 1) % CLIENTS].hits(word(number), limit=50)
            assert len(hits) == 1, word(number)
            assert hits[0]["source"]["version"] == 1
    once = "SELECT (SELECT count(*) FROM ingestions), (SELECT count(*) FROM documents), (SELECT count(*) FROM versions)"
    assert home.rows(once) == [(INGESTIONS, INGESTIONS, INGESTIONS)]
    assert home.footprint()["outbox"] == 0
    assert home.staged() == set()


async def test_what_was_acknowledged_outlives_the_death_of_every_process(home: Home) -> None:
    async with session(home) as client:
        async with anyio.create_task_group() as tasks:
            for number in range(INGESTIONS):
                tasks.start_soon(_acknowledged, client, f"Note about {word(number)}.")
        kill_all(home.processes())
    async with session(home) as client:
        await client.call("get_stats")  # the database is there again
        await eventually(lambda: home.footprint()["outbox"] == 0)
        found = [len(await client.hits(word(number))) for number in range(INGESTIONS)]
        assert found == [1] * INGESTIONS


async def test_a_command_that_ingests_goes_on_when_the_daemon_is_killed(home: Home) -> None:
    for number in range(INGESTIONS):
        home.file(f"{number}.md", sentence(number))
    assert home.run("ls").returncode == 0  # the daemon and its database are there
    command = [home.command, "ingest", str(home.root), "--json"]
    async with await anyio.open_process(command, env=home.environment, cwd=home.root) as ingesting:
        await eventually(lambda: _accepted(home) > 0)
        home.daemon().kill()
        assert ingesting.stdout is not None
        said = b"".join([part async for part in ingesting.stdout])
    done = json.loads(said)
    assert ingesting.returncode == 0, done
    assert done["searchable"] + done["unchanged"] == INGESTIONS


async def test_searches_and_postgres_go_on_while_temporal_comes_back_elsewhere(home: Home) -> None:
    async with session(home) as client:
        await _remember(client, "Lovage is a herb.", "default")
        postgres, temporal = _child(home, "postgres"), _child(home, "temporal")
        daemon = home.daemon()
        with socket.socket() as another_program:
            another_program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # So that it does not start its Temporal again before the port is taken.
            daemon.suspend()
            psutil.Process(temporal["pid"]).kill()
            await eventually(lambda: _bound(another_program, temporal["port"]))
            daemon.resume()
            await _remember(client, "Chervil is a herb.", "default")
            assert len(await client.hits("lovage")) == 1
            assert _child(home, "temporal")["port"] != temporal["port"]
        assert _child(home, "postgres")["pid"] == postgres["pid"]


def _bound(server: socket.socket, port: int) -> bool:
    try:
        server.bind(("127.0.0.1", port))
    except OSError:
        return False
    server.listen()
    return True


def _child(home: Home, name: str) -> dict[str, Any]:
    """How the daemon remembers a process of its own."""
    return json.loads(DataFolder(home.path).child_json(name).read_text("utf-8"))


async def _remember(client: Session, text: str, namespace: str) -> None:
    view = await client.ended("add_memory", text=text, namespace=namespace)
    assert view["state"] == "ready"


async def _acknowledged(client: Session, text: str) -> None:
    await client.call("add_memory", text=text, wait_seconds=0)


def _accepted(home: Home) -> int:
    return home.number("SELECT count(*) FROM ingestions")


def _document(home: Home, number: int) -> dict[str, str]:
    """Texts and small files for the fast lane, Word documents for a workflow of their own."""
    text = sentence(number)
    if number % 5 == 0:
        return {"source": str(home.file(f"{number}.docx", make_docx([("", text)])))}
    return {"text": text} if number % 2 else {"source": str(home.file(f"{number}.md", text))}
