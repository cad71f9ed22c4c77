"""The daemon's end of `edge_child.py`: starts the engine's process, asks it, and starts it again when it died."""

import logging
import pickle
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from apex_mcp.child_process import Child
from apex_mcp.stores.vectors.edge_errors import DAMAGED, DIED, unavailable
from apex_mcp.stores.vectors.edge_files import State

_log = logging.getLogger(__name__)


class EngineProcess:
    """One engine and its process; asked by one thread, looked at by any.

    Args:
        folder: the index's own.
        wanted: whose index it should be, where it starts empty.
        on_lost: called, on the asking thread, when a process was found dead.

    Attributes:
        state: as the engine noted it last.
        generation: how often the process died. What the earlier ones had not flushed is lost.
    """

    def __init__(self, folder: Path, wanted: State, on_lost: Callable[[], None]) -> None:
        self.state = wanted
        self.generation = 0
        self._folder = folder
        self._on_lost = on_lost
        self._child: Child | None = None
        self._ended = False

    def ask(self, command: str, *arguments: Any, of: int | None = None, **named: Any) -> Any:
        """Have the engine run one command.

        Args:
            command: name of an `Engine`'s method.
            arguments: of it; they and the answer must pickle.
            of: the generation that must still be there.
            named: further arguments of it.

        Raises:
            Unavailable: it did not work, or the process died. The next command starts another one.
        """
        if self._ended:
            raise unavailable("closed")
        if self._child is not None and not self._child.alive():
            self._bury(self._child)
        child = self._child or self._start()
        if of not in (None, self.generation):
            raise unavailable("restarted")
        return self._exchange(child, command, *arguments, **named)

    def change(self, command: str, *arguments: Any, of: int | None = None) -> None:
        """Run a command that gives the new state."""
        self.state = self.ask(command, *arguments, of=of)

    def end(self) -> None:
        """End the process. What was not flushed is lost."""
        self._ended = True
        if self._child is not None:
            self._child.end()

    def _start(self) -> Child:
        # What is there goes on; only where it can't does the index start again, as the one that it was.
        wanted = replace(
            self.state,
            shard=f"shard-{uuid.uuid4().hex[:12]}",
            position=None,
            filled=None,
            points=0,
            words=False,
            changed=0,
            files={},
        )
        try:
            child = Child("apex_mcp.stores.vectors.edge_child", str(self._folder), humble=False)
        except OSError as error:
            raise unavailable(type(error).__name__) from error
        try:
            self.state, damage = self._exchange(child, "open", wanted)
        except BaseException:
            child.end()
            raise
        if damage:
            _log.warning("the vector index is damaged and will be rebuilt (%s)", damage)
        self._child = child
        return child

    def _exchange(self, child: Child, command: str, *arguments: Any, **named: Any) -> Any:
        message = pickle.dumps((command, arguments, named), protocol=pickle.HIGHEST_PROTOCOL)
        answer = child.exchange(message)
        if answer is None:
            self._bury(child)
            raise unavailable(DIED)
        worked, value = pickle.loads(answer)
        if not worked:
            if value.details.get("cause") == DAMAGED:
                self._bury(child, why="is started again: its index is damaged")
            raise value
        return value

    def _bury(self, child: Child, *, why: str = "died") -> None:
        status = child.end()
        if child is self._child:  # else it never was of use
            self._child = None
            self.generation += 1
            _log.warning("the vector index's process %s (exit status %s)", why, status)
            self._on_lost()
