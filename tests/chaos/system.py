"""What a run needs of a profile: clients, processes to harm, and a look into every store at the end."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, ClassVar, LiteralString
from uuid import UUID

import anyio
import psutil

from tests.chaos.model import Model
from tests.chaos.plan import Act
from tests.e2e.homes import Session, kill_all

# How many points of each version an index holds.
Points = dict[UUID, int]


class System(ABC):
    """One memory and all its processes.

    Args:
        files: where clients put files that may be read.
        faults: where faults are asked for.
        staging: the folder in which content waits.
        skipped: what cannot be done here, and why.
    """

    profile: ClassVar[str]
    targets: ClassVar[Sequence[str]]

    def __init__(self, *, files: Path, faults: Path, staging: Path, skipped: dict[Act, str]) -> None:
        self.files = files
        self.staging = staging
        self.skipped = skipped
        self._faults = faults

    @abstractmethod
    def session(self) -> AbstractAsyncContextManager[Session]:
        """A client."""

    @abstractmethod
    def processes(self, target: str) -> list[psutil.Process]:
        """Those of a target that run now."""

    @abstractmethod
    async def start_again(self, target: str) -> None:
        """Start what was killed, where it does not come back by itself."""

    @abstractmethod
    async def kill_everything(self) -> None:
        """Kill every process at once; they are there again soon after."""

    @abstractmethod
    async def lose_temporal(self) -> None:
        """Delete Temporal's database; it comes back with an empty one."""

    @abstractmethod
    async def wipe_index(self) -> None:
        """Delete the vector index."""

    @abstractmethod
    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        """What PostgreSQL says."""

    @abstractmethod
    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the command line: its exit status, and what it printed."""

    @abstractmethod
    async def points(self) -> Points:
        """What the vector index holds."""

    async def fill_disk(self, seconds: float) -> None:
        """Leave next to nothing of the disk for so long."""
        raise NotImplementedError

    async def cut(self, target: str) -> int:
        """Cut all connections to a target; how many there were."""
        raise NotImplementedError

    async def at_rest(self) -> None:
        """Wait until all that is being started has started."""
        return

    def other_stores(self, model: Model) -> list[str]:
        """What is wrong in the stores beside record and index."""
        return []

    async def kill(self, target: str) -> int:
        """SIGKILL; how many processes that met."""
        found = self.processes(target)
        await anyio.to_thread.run_sync(lambda: kill_all(found))
        await self.start_again(target)
        return len(found)

    async def pause(self, target: str, seconds: float) -> int:
        """SIGSTOP, and SIGCONT after so long; how many processes that met."""
        found = self.processes(target)
        for process in found:
            with suppress(psutil.Error):
                process.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            for process in found:
                with suppress(psutil.Error):
                    process.resume()
        return len(found)

    def ask_for_fault(self, point: str, action: str) -> None:
        """Have whoever reaches that point next fail or die."""
        (self._faults / f"{point}.{action}").touch()

    def met_faults(self) -> set[str]:
        """Those that were asked for and met."""
        return {path.name.removesuffix("-met") for path in self._faults.glob("*-met")}

    def forget_faults(self) -> set[str]:
        """Take back what nobody met; what that was."""
        unmet = {path.name for path in self._faults.iterdir() if not path.name.endswith("-met")}
        for name in unmet:
            (self._faults / name).unlink(missing_ok=True)
        return unmet
