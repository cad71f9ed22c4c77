"""Servers for processes that die: PostgreSQL and Temporal, which outlive them."""

import asyncio
import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_mcp.stores.record.schema import ensure_schema
from tests.faults.living import Place
from tests.record.conftest import create_database

_ROOM_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Servers:
    """Both, for all places of a run."""

    postgres: EmbeddedPostgres
    temporal: str
    folder: Path

    def place(self, name: str, **settings: Any) -> Place:
        """A data folder and a database of its own."""
        home, faults, files = (self.folder / name / part for part in ("home", "faults", "files"))
        for folder in (faults, files):
            folder.mkdir(parents=True)
        given = {"home": home, "embedder": "none", "children": 1, **settings}
        return Place(given, create_database(self.postgres, "apex"), self.temporal, faults)


def _quick_disk() -> Path | None:
    """A file system in memory, where there is one with room: a killed process loses nothing on it, and syncing costs nothing."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM_BYTES else None


@pytest.fixture(scope="session")
def servers() -> Generator[Servers]:
    with asyncio.Runner() as runner, ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="apex", dir=_quick_disk()))
        ).resolve()
        postgres = EmbeddedPostgres(DataFolder(folder / "postgres").prepare())
        temporal = EmbeddedTemporal(DataFolder(folder / "temporal").prepare())
        stack.callback(lambda: runner.run(postgres.stop()))
        stack.callback(lambda: runner.run(temporal.stop()))
        runner.run(ensure_schema(runner.run(postgres.start())))
        yield Servers(postgres, runner.run(temporal.start()), folder)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """For fixtures that live longer than a test."""
    return "asyncio"
