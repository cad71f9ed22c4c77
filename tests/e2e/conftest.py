"""Whole systems: a daemon over stdio, or the app in this process; all with real stores."""

import os
import shutil
from collections.abc import Generator

import pytest

from tests.e2e.homes import Home, new_home
from tests.e2e.servers import Stores, running_stores
from tests.services.neo4j_server import Neo4jServer
from tests.services.redis_server import running_redis


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """For fixtures that live longer than a test."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_home() -> Generator[Home]:
    """For tests that leave the daemon alone; each uses a namespace of its own."""
    with new_home() as home:
        yield home


@pytest.fixture
def home() -> Generator[Home]:
    """For tests that end the daemon, or count all there is."""
    with new_home() as home:
        yield home


@pytest.fixture(scope="session")
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Stores]:
    """Stores on servers; each user takes a database of its own. Its users are in the group `neo4j`."""
    with running_redis(tmp_path_factory.mktemp("redis")) as redis:
        more = {"REDIS_URL": redis.url, **_graph(request)}
        with running_stores(redis, **more) as running:
            yield running


def _graph(request: pytest.FixtureRequest) -> dict[str, str]:
    """A Neo4j; where none can be had, PostgreSQL holds the graph, except in continuous integration."""
    if not any(map(os.environ.get, ("CI", "APEX_TEST_NEO4J_URI"))) and not all(
        map(shutil.which, ("java", "mvn"))
    ):
        return {}
    server: Neo4jServer = request.getfixturevalue("neo4j")
    return {"NEO4J_URI": server.uri, "NEO4J_USER": server.user, "NEO4J_PASSWORD": server.password}
