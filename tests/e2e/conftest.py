"""Whole systems: a daemon over stdio, or the app in this process; all with real stores."""

from collections.abc import Generator

import pytest

from tests.e2e.homes import Home, new_home


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
