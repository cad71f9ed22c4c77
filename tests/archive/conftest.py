"""Databases as in tests/record: one server, a clone of one template for each memory."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

from apex_mcp.runtime.postgres import EmbeddedPostgres
from tests.archive.memories import Kept, kept
from tests.record.conftest import create_database, postgres

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """For fixtures that live longer than a test."""
    return "asyncio"


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> Callable[[], str]:
    return lambda: create_database(postgres, "apex")


@pytest.fixture
async def one(new_database: Callable[[], str], tmp_path: Path) -> AsyncGenerator[Kept]:
    async with kept(new_database(), tmp_path / "one") as memory:
        yield memory


@pytest.fixture
async def other(new_database: Callable[[], str], tmp_path: Path) -> AsyncGenerator[Kept]:
    async with kept(new_database(), tmp_path / "other") as memory:
        yield memory
