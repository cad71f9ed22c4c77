"""The server profile: stores on servers, one door over HTTP, two workers; processes come and go, and nothing is lost."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from temporalio.client import Client

from apex_mcp.errors import Code
from apex_mcp.ingestion.contract import shared_queue
from apex_mcp.runtime.maintaining import maintain
from tests.e2e.demo import every_demo_file_goes_in_and_answers_its_question, sentence, word
from tests.e2e.homes import ERAS, Session
from tests.e2e.servers import Process, Site, Stores, new_site
from tests.ingestion.documents import make_docx
from tests.services.s3_server import S3Service
from tests.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("neo4j")]

INGESTIONS = 50


@pytest.fixture(scope="module")
def site(stores: Stores) -> Generator[Site]:
    """A door, which two processes opened at once on the empty database; no worker yet."""
    with new_site(stores) as opened, ExitStack() as stack:
        other = Site(opened.folder, opened.stores, token=opened.token)
        starting = stack.enter_context(other.process("apex-mcp", "serve"))
        stack.enter_context(opened.serve())
        other.ready(starting)
        starting.terminate()
        yield opened


@pytest.fixture(scope="module")
def workers(site: Site) -> Generator[list[Process]]:
    """Two workers; a test that ends one starts another in its place."""
    running = [site.worker(), site.worker("--concurrency", "2")]
    yield running
    for worker in running:
        with worker:
            pass


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("era", ERAS)
async def test_every_demo_file_goes_in_over_http_and_answers_its_question(site: Site, era: str) -> None:
    async with site.session(era) as client:
        await every_demo_file_goes_in_and_answers_its_question(client, f"demo-{era}")
    await eventually(lambda: site.staged() == [])


async def test_ingestions_outlive_a_killed_worker(site: Site, workers: list[Process]) -> None:
    namespace = f"n{uuid4().hex}"
    async with site.session() as client:
        accepted = [
            await client.call(
                "ingest_document", wait_seconds=0, namespace=namespace, **_document(site, number)
            )
            for number in range(INGESTIONS // 2)
        ]
        workers[0].kill()
        accepted += [
            await client.call(
                "ingest_document", wait_seconds=0, namespace=namespace, **_document(site, number)
            )
            for number in range(INGESTIONS // 2, INGESTIONS)
        ]
        ended = [await _ended(client, view) for view in accepted]
        assert [view["state"] for view in ended] == ["ready"] * INGESTIONS
        for number in range(INGESTIONS):
            hits = await client.hits(word(number), limit=50, namespace=namespace)
            assert len(hits) == 1, word(number)
            assert hits[0]["source"]["version"] == 1
    workers[0] = site.worker()
    assert site.number("SELECT count(*) FROM outbox") == 0
    await _maintained(site)
    assert site.staged() == []


async def _maintained(site: Site) -> None:
    """As an hour later: what the killed worker had committed, and not removed from staging yet, goes."""
    with psycopg.connect(site.stores.database_url, autocommit=True) as connection:
        connection.execute("UPDATE ingestions SET finished_at = finished_at - interval '1 hour'")
        row = connection.execute("SELECT record_id FROM identity").fetchone()
    assert row is not None
    client = await Client.connect(site.stores.temporal_address)
    await maintain(client, shared_queue(row[0].hex), erase=False)


async def test_a_worker_that_is_asked_to_stop_gives_back_what_it_holds_at_once(
    site: Site, workers: list[Process]
) -> None:
    """Its lease would run longer than it takes the other worker to finish everything."""
    namespace = f"n{uuid4().hex}"
    async with site.session() as client:
        accepted = [
            await client.call(
                "ingest_document", wait_seconds=0, namespace=namespace, **_document(site, number)
            )
            for number in range(20)
        ]
        assert await anyio.to_thread.run_sync(workers[1].terminate) == 0
        assert site.number("SELECT count(DISTINCT lease_owner) FROM outbox") <= 1
        ended = [await _ended(client, view) for view in accepted]
        assert {view["state"] for view in ended} == {"ready"}
    assert "stopped" in workers[1].log
    workers[1] = site.worker()


@pytest.mark.usefixtures("workers")
async def test_entities_reach_the_graph_and_are_found(site: Site) -> None:
    namespace = f"n{uuid4().hex}"
    async with site.session() as client:
        fact = {"subject": "Ada Lovage", "predicate": "works_at", "object": "Harbour Works"}
        people = [{"name": "Ada Lovage", "type": "person"}, {"name": "Harbour Works", "type": "organization"}]
        await client.ended(
            "add_memory", text="Ada works there.", entities=people, facts=[fact], namespace=namespace
        )
        await eventually(lambda: site.number("SELECT count(*) FROM graph_changes") == 0)
        answer = await client.call("get_entities", query="Ada Lovage", namespace=namespace)
        assert not answer.get("degraded")
        (ada,) = answer["entities"]
        assert [one["object"] for one in ada["facts"]] == ["Harbour Works"]


@pytest.mark.usefixtures("workers")
async def test_without_redis_everything_goes_on(site: Site) -> None:
    namespace = f"n{uuid4().hex}"
    async with site.session() as client:
        site.stores.redis.kill()
        try:
            view = await client.ended("add_memory", text="The lovage does without.", namespace=namespace)
            assert view["state"] == "ready"
            assert len(await client.hits("lovage", namespace=namespace)) == 1
            assert json.loads(site.get("/ready")[1])["ready"]
        finally:
            site.stores.redis.start()


@pytest.mark.usefixtures("workers")
async def test_a_client_goes_on_when_the_door_is_killed_and_opened_again(site: Site) -> None:
    namespace = f"n{uuid4().hex}"
    own = Site(site.folder, site.stores)
    server = own.serve()
    async with own.session() as client:
        await client.ended("add_memory", text="The lovage stands at the pier.", namespace=namespace)
        server.kill()
        with own.serve():
            assert len(await client.hits("lovage", namespace=namespace)) == 1


@pytest.mark.usefixtures("workers")
async def test_a_call_that_waits_is_answered_while_the_door_closes(site: Site) -> None:
    own = Site(site.folder, site.stores)
    server = own.serve()
    answers: list[dict[str, Any]] = []
    async with own.session() as client, anyio.create_task_group() as tasks:

        async def remember() -> None:
            path = own.file(f"{uuid4().hex}.docx", make_docx([("", "A lovage document. " * 2000)]))
            answers.append(await client.call("ingest_document", source=str(path), wait_seconds=15))

        # A client asks for the tools to check an answer by, if it does not know them yet.
        await client.client.list_tools()
        before = site.number("SELECT count(*) FROM ingestions")
        tasks.start_soon(remember)
        await eventually(lambda: site.number("SELECT count(*) FROM ingestions") > before)
        assert await anyio.to_thread.run_sync(server.terminate) == 0
    assert [answer["state"] for answer in answers] == ["ready"]


@pytest.mark.usefixtures("workers")
async def test_the_first_answer_after_temporal_hangs_says_what_it_waits_for(site: Site) -> None:
    namespace = f"n{uuid4().hex}"
    async with site.session() as client:
        temporal = psutil.Process(site.stores.temporal.pid)
        temporal.suspend()
        try:
            view = await client.call("add_memory", text="Lovage waits.", namespace=namespace, wait_seconds=20)
        finally:
            temporal.resume()
        assert not view["finished"]
        assert view["waiting_for"] == "Temporal does not answer"
        assert (await _ended(client, view))["state"] == "ready"


async def test_nobody_comes_in_without_the_token_or_by_another_name(site: Site) -> None:
    assert site.status("/mcp") == 401
    assert site.status("/mcp", Authorization="Bearer wrong") == 401
    assert site.status("/mcp", Authorization=f"Bearer {site.token}", Host="evil.example") == 421
    assert site.get("/health") == (200, b'{"status": "ok"}')
    # A store that was just away is asked again after a moment.
    await eventually(lambda: set(_parts(site).values()) == {"ok"})
    assert {"postgres", "temporal", "qdrant", "redis"} <= _parts(site).keys()


def _parts(site: Site) -> dict[str, str]:
    status, body = site.get("/ready")
    assert status == 200
    return json.loads(body)["parts"]


async def test_a_client_elsewhere_names_no_folder_of_the_server(site: Site) -> None:
    secret = site.folder / "secret.txt"
    secret.write_text("the safe opens with 4711", "utf-8")
    for era in ERAS:
        async with site.session(era, roots=[site.folder]) as client:
            assert (
                await client.refused("ingest_document", source=str(secret))
            ).code == Code.PATH_OUTSIDE_ROOTS


@pytest.mark.usefixtures("workers")
async def test_the_same_file_again_is_unchanged_and_leaves_nothing_in_staging(site: Site) -> None:
    source, namespace = str(site.file("twice.md", "The lovage is counted twice.")), f"n{uuid4().hex}"
    async with site.session() as client:
        views = [
            await client.call("ingest_document", source=source, namespace=namespace, wait_seconds=0)
            for _ in range(4)
        ]
        ended = {view["ingestion_id"]: (await _ended(client, view))["state"] for view in views}
        assert [state for state in ended.values() if state != "unchanged"] == ["ready"]
    await eventually(lambda: site.staged() == [])


@pytest.mark.parametrize("command", [["apex-mcp", "serve"], ["apex-worker"]])
def test_incomplete_settings_are_refused_by_name(site: Site, command: list[str]) -> None:
    with_gaps = {"DATABASE_URL": "", "APEX_STAGING": ""}
    process = site.process(*command, **with_gaps)
    assert process.popen.wait(60) == 1
    assert "DATABASE_URL" in process.log
    assert "APEX_STAGING" in process.log
    assert "QDRANT_URL" not in process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize("command", [["apex-mcp", "serve", "--port", "0"], ["apex-worker"]])
@pytest.mark.parametrize(
    ("setting", "value"),
    [("TEMPORAL_ADDRESS", "http://127.0.0.1:99999"), ("QDRANT_URL", "nonsense")],
)
def test_an_address_that_is_none_ends_the_process_and_is_named(
    site: Site, command: list[str], setting: str, value: str
) -> None:
    process = site.process(*command, **{setting: value})
    assert process.popen.wait(60) == 1
    assert f"settings_invalid: APEX_{setting}" in process.log


@pytest.mark.parametrize("command", [["apex-mcp", "serve", "--port", "0"], ["apex-worker"]])
def test_a_wrong_password_of_the_database_ends_the_process(site: Site, command: list[str]) -> None:
    url = make_conninfo(site.stores.database_url, password="WRONG-SECRET")
    process = site.process(*command, DATABASE_URL=url)
    assert process.popen.wait(60) == 1
    assert "APEX_DATABASE_URL" in process.log
    assert "WRONG-SECRET" not in process.log


def test_a_worker_that_stages_elsewhere_ends_and_names_the_setting(site: Site, tmp_path: Path) -> None:
    worker = site.process("apex-worker", APEX_STAGING=str(tmp_path))
    assert worker.popen.wait(60) == 1
    assert "settings_invalid: APEX_STAGING" in worker.log


@pytest.mark.parametrize("command", [["apex-mcp", "serve", "--port", "0"], ["apex-worker"]])
def test_a_namespace_that_temporal_does_not_have_ends_the_process_and_is_named(
    site: Site, command: list[str]
) -> None:
    process = site.process(*command, APEX_TEMPORAL_NAMESPACE="nope")
    assert process.popen.wait(60) == 1
    assert "Temporal has no namespace nope" in process.log


def test_a_bucket_that_is_away_is_a_part_that_is_down(stores: Stores, s3: S3Service) -> None:
    bucket = s3.new_bucket()
    staging = {"APEX_STAGING": f"s3://{bucket}/memory", "APEX_S3_ENDPOINT_URL": s3.endpoint_url}
    with new_site(stores) as other, other.ready(other.process("apex-mcp", "serve", **staging)) as door:
        assert _parts(other)["staging"] == "ok"
        for item in s3.client().list_objects_v2(Bucket=bucket).get("Contents", ()):
            s3.client().delete_object(Bucket=bucket, Key=item["Key"])
        s3.client().delete_bucket(Bucket=bucket)
        door.waits(lambda: _parts(other)["staging"] == "down")
        assert other.status("/ready") == 200


def test_a_door_for_others_needs_a_token(site: Site) -> None:
    process = site.process("apex-mcp", "serve", "--host", "0.0.0.0", "--port", "0", APEX_HTTP_TOKEN="")
    assert process.popen.wait(60) == 1
    assert "APEX_HTTP_TOKEN" in process.log


@pytest.mark.parametrize("command", [["apex-mcp", "serve", "--port", "0"], ["apex-worker"]])
def test_a_newer_database_is_refused(site: Site, command: list[str]) -> None:
    with psycopg.connect(site.stores.database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS newer")
        connection.execute("CREATE TABLE IF NOT EXISTS newer.alembic_version AS SELECT '9999' AS version_num")
    url = make_conninfo(site.stores.database_url, options="-c search_path=newer")
    process = site.process(*command, DATABASE_URL=url)
    assert process.popen.wait(60) == 1
    assert Code.SCHEMA_NEWER in process.log


def test_a_worker_that_waits_for_temporal_or_the_database_stops_when_it_is_asked_to(site: Site) -> None:
    for away in ({"TEMPORAL_ADDRESS": "127.0.0.1:9"}, {"DATABASE_URL": "postgresql://a:b@127.0.0.1:9/c"}):
        with site.process("apex-worker", **away) as worker:
            worker.says("_unavailable")


def test_help_is_there_without_any_setting() -> None:
    """And loads nothing heavy for it."""
    ran = subprocess.run(
        [sys.executable, "-c", "from apex_worker.cli import main; main(['--help'])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--concurrency" in ran.stdout


async def _ended(client: Session, view: dict[str, Any], seconds: float = 90) -> dict[str, Any]:
    with anyio.fail_after(seconds):
        while not view["finished"]:
            known = {name: view[name] for name in ("ingestion_id", "namespace")}
            (view,) = (await client.call("get_ingestion", **known))["ingestions"]
            await asyncio.sleep(0.05)
    return view


def _document(site: Site, number: int) -> dict[str, str]:
    """Texts and small files for the fast lane, Word documents for a workflow of their own."""
    if number % 5 == 0:
        return {"source": str(site.file(f"{number}.docx", make_docx([("", sentence(number))])))}
    return (
        {"text": sentence(number)}
        if number % 2
        else {"source": str(site.file(f"{number}.md", sentence(number)))}
    )
