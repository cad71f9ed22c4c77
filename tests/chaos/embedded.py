"""The embedded profile under chaos: one data folder, clients over stdio, and everything that the daemon starts."""

import json
import shutil
import tempfile
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import anyio
import psutil
import pytest

from apex_mcp.runtime.home import DataFolder
from apex_mcp.stores.vectors.edge import EdgeVectorIndex
from tests.chaos.plan import Act
from tests.chaos.system import Points, System
from tests.e2e.homes import Home, Session, home_in, kill_all, session
from tests.runtime.services import fill, small_disk

_DISK_MEGABYTES = 3000
# More than a write-ahead log's next file needs, and less than storing asks for.
_LEFT_MEGABYTES = 20
_FILLER = "filler"


class EmbeddedSystem(System):
    """One data folder, on a disk of its own where this may be mounted."""

    profile = "embedded"
    targets = ("daemon", "engine", "parser", "postgres", "temporal")

    def __init__(self, home: Home, disk: Path | None, skipped: dict[Act, str]) -> None:
        super().__init__(
            files=home.root,
            faults=Path(home.environment["APEX_FAULTS"]),
            staging=DataFolder(home.path).staging,
            skipped=skipped,
        )
        self._home = home
        self._disk = disk

    def session(self) -> AbstractAsyncContextManager[Session]:
        return session(self._home)

    def processes(self, target: str) -> list[psutil.Process]:
        """See `System`."""
        try:
            daemon = self._home.daemon()
            if target == "daemon":
                return [daemon]
            if target in ("postgres", "temporal"):
                noted = json.loads(DataFolder(self._home.path).child_json(target).read_text("utf-8"))
                process = psutil.Process(noted["pid"])
                return [process, *process.children(recursive=True)]
            module = {"engine": "edge_child", "parser": "pool_child"}[target]
            return [one for one in daemon.children() if any(module in word for word in one.cmdline())]
        except (OSError, ValueError, psutil.Error):
            return []  # it is just starting, or ending

    async def start_again(self, target: str) -> None:
        """Whoever calls next starts the daemon, and the daemon its parts."""

    async def kill_everything(self) -> None:
        """See `System`."""
        await anyio.to_thread.run_sync(lambda: kill_all(self._home.processes()))

    async def fill_disk(self, seconds: float) -> None:
        """See `System`."""
        assert self._disk is not None
        disk = self._disk
        await anyio.to_thread.run_sync(lambda: fill(disk, but_megabytes=_LEFT_MEGABYTES))
        try:
            await anyio.sleep(seconds)
        finally:
            (disk / _FILLER).unlink()

    async def lose_temporal(self) -> None:
        """See `System`: killed with its daemon, which would bring it back at once, and its database deleted meanwhile."""
        await anyio.to_thread.run_sync(
            lambda: kill_all([*self.processes("daemon"), *self.processes("temporal")])
        )
        for path in DataFolder(self._home.path).temporal.glob("*"):
            path.unlink(missing_ok=True)

    async def wipe_index(self) -> None:
        """See `System`."""
        await anyio.to_thread.run_sync(
            lambda: kill_all([*self.processes("daemon"), *self.processes("engine")])
        )
        shutil.rmtree(DataFolder(self._home.path).vectors, ignore_errors=True)

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        return self._home.rows(query)

    def run(self, *arguments: str) -> tuple[int, str]:
        ran = self._home.run(*arguments)
        return ran.returncode, ran.stdout or ran.stderr

    async def points(self) -> Points:
        """See `System`: the index is one process's, so the daemon is stopped for it."""
        [(name, record_id, embedder)] = self.rows("SELECT index_name, record_id, embedder FROM identity")
        versions = [row[0] for row in self.rows("SELECT id FROM versions")]
        await anyio.to_thread.run_sync(lambda: self._home.run("stop"))
        folder = DataFolder(self._home.path).vectors / name
        index = await EdgeVectorIndex.open(folder, record_id=record_id, embedder=embedder, dimension=None)
        try:
            present = await index.version_ids()
            counts: dict[UUID, int] = {
                one: await index.count(version_id=one) for one in {*present, *versions}
            }
        finally:
            await index.close()
        return counts


@contextmanager
def embedded_system(**more: str) -> Generator[EmbeddedSystem]:
    """A data folder of the run's own; at its end nothing of it is left running."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apex"))).resolve()
        skipped: dict[Act, str] = {}
        disk = None
        try:
            disk = stack.enter_context(small_disk(folder / "d", megabytes=_DISK_MEGABYTES))
        except pytest.skip.Exception as reason:
            skipped[Act.FILL_DISK] = str(reason.msg)
        faults = folder / "faults"
        faults.mkdir()
        more = {"APEX_FAULTS": str(faults), **more}
        home = stack.enter_context(home_in(folder, path=(disk or folder) / "home", **more))
        yield EmbeddedSystem(home, disk, skipped)
