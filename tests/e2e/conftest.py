"""Whole systems: a daemon over stdio, or the app in this process; all with real stores."""

from collections.abc import Generator

import pytest

from tests.e2e.homes import Home, new_home
from tests.e2e.servers import Stores, running_stores


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
def stores() -> Generator[Stores]:
    """Stores on servers; each user takes a database of its own. Its users are in the group `servers`."""
    with running_stores() as running:
        yield running
