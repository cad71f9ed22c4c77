"""A daemon whose PostgreSQL and Temporal are servers of the user's; the index and what waits are in its data folder."""

import json
from collections.abc import Generator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from apex_mcp.errors import Code
from tests.e2e.demo import DEMO, every_demo_file_goes_in_and_answers_its_question
from tests.e2e.homes import Home, Session, new_home, session
from tests.e2e.servers import Stores
from tests.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("neo4j")]


def _home(stores: Stores) -> AbstractContextManager[Home]:
    return new_home(
        APEX_DATABASE_URL=stores.database_url,
        APEX_TEMPORAL_ADDRESS=stores.temporal_address,
        # Means something else in a developer's shell, and must not be looked at.
        DATABASE_URL="postgresql://nobody@nowhere.invalid/other",
        QDRANT_URL="http://nowhere.invalid",
    )


@pytest.fixture(scope="module")
def own(stores: Stores) -> Stores:
    return stores.with_database()


@pytest.fixture(scope="module")
def mixed(own: Stores) -> Generator[Home]:
    with _home(own) as home:
        yield home


async def test_every_demo_file_goes_in_and_answers_its_question(mixed: Home) -> None:
    async with session(mixed.reading(DEMO, namespace="demo")) as client:
        await every_demo_file_goes_in_and_answers_its_question(client, "demo")


def test_status_and_doctor_say_where_the_servers_are(mixed: Home, own: Stores) -> None:
    checks = json.loads(mixed.run("doctor", "--json").stdout)
    assert [check for check in checks if check["state"] == "fault"] == []
    services: list[dict[str, Any]] = json.loads(mixed.run("status", "--json").stdout)["services"]
    assert {service["name"]: service["state"] for service in services} == {
        "postgres": "ok",
        "temporal": "ok",
        "worker": "ok",
    }
    elsewhere = {service["name"]: service for service in services if service.get("where")}
    assert elsewhere["temporal"]["where"] == own.temporal_address
    assert all(service["latency_ms"] > 0 for service in elsewhere.values())
    assert not (mixed.path / "postgres").exists()
    assert Code.NOT_RETRYABLE in mixed.run("ui").stderr


async def test_a_daemon_whose_temporal_lacks_the_namespace_says_so(stores: Stores) -> None:
    servers = stores.with_database()
    with new_home(
        APEX_DATABASE_URL=servers.database_url,
        APEX_TEMPORAL_ADDRESS=servers.temporal_address,
        APEX_TEMPORAL_NAMESPACE="nope",
    ) as home:
        home.run("ls")

        def degraded() -> list[str]:
            return json.loads(home.run("status", "--json").stdout)["stats"]["degraded"]

        await eventually(lambda: "temporal: Temporal has no namespace nope" in degraded())


async def test_one_daemon_owns_the_record_and_another_may_follow_it(mixed: Home, own: Stores) -> None:
    """The other one's index is rebuilt in its own data folder."""
    async with session(mixed) as first:
        await first.ended("add_memory", text="The lovage has one owner.", namespace="owned")
        with _home(own) as other:
            async with session(other) as second:
                assert (await second.refused("search", query="lovage")).code == Code.RECORD_OWNED
                assert mixed.run("stop").returncode == 0

                await eventually(lambda: _finds(second))
                assert (await first.refused("search", query="lovage")).code == Code.RECORD_OWNED
            assert other.run("stop").returncode == 0

        await eventually(lambda: _finds(first))


async def _finds(client: Session) -> bool:
    """Whether the note is found; a daemon that is not the owner refuses."""
    result = await client.client.call_tool("search", {"query": "lovage", "namespace": "owned"})
    found: dict[str, Any] = result.structured_content or {}
    return len(found.get("hits", [])) == 1


async def test_a_daemon_goes_on_when_the_connection_breaks_that_makes_it_the_owner(
    mixed: Home, own: Stores
) -> None:
    async with session(mixed) as client:
        await client.call("get_stats")
        before = own.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'apex-mcp owner'")
        own.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'apex-mcp owner'"
        )
        await eventually(
            lambda: (
                own.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'apex-mcp owner'")
                not in ([], before)
            )
        )
        view = await client.ended("add_memory", text="The lovage has the same owner.", namespace="again")
        assert view["state"] == "ready"
        assert len(await client.hits("lovage", namespace="again")) == 1
