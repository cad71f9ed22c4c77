"""The command line's side of the control channel."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from apex_mcp.errors import Code, Unavailable
from apex_mcp.runtime import launch, wire

_END_SECONDS = 30.0
_POLL_SECONDS = 0.02


class DaemonClient:
    """A connection to the daemon; a context manager. Not for use by several threads at once.

    Attributes:
        notices: what the user should be told, for instance that settings differ from the daemon's.
        version: the daemon's version.
    """

    def __init__(self, link: launch.Link) -> None:
        self._link = link
        self._count = 0
        self.notices = link.notices
        self.version = link.version

    @classmethod
    def connect(
        cls, home: str, *, start: bool = True, vouched: bool = False, module: str = launch.DAEMON_MODULE
    ) -> Self:
        """Connect to the daemon of a data folder.

        Args:
            home: the data folder.
            start: start it where none runs.
            vouched: the user typed the paths, so roots don't limit them.
            module: what to run as the daemon.

        Raises:
            ApexError: there is no daemon and none could be started, or it refuses.
        """
        return cls(
            launch.open_link(str(home), wire.MODE_CONTROL, vouched=vouched, start=start, module=module)
        )

    def call(self, op: str, **args: Any) -> Any:
        """Run one op and return its result as plain data.

        Raises:
            ApexError: as the op raised it; Unavailable when the daemon goes away meanwhile.
        """
        self._ask(op, args)
        return self._next()["result"]

    def stream(self, op: str, **args: Any) -> Iterator[Any]:
        """Run an op that yields; leave it early by closing the client.

        Raises:
            ApexError: as `call`.
        """
        self._ask(op, args)
        while "end" not in (message := self._next()):
            yield message["item"]

    def stop(self) -> None:
        """Ask the daemon to stop, and return when its process and all that it ran have ended.

        Raises:
            Unavailable: its process does not end.
        """
        pid: int = self.call("stop")
        while self._link.receive():
            pass
        _await_end(pid)

    def close(self) -> None:
        self._link.close()

    def _ask(self, op: str, args: dict[str, Any]) -> None:
        self._count += 1
        self._link.send(wire.encode({"id": self._count, "op": op, "args": args}))

    def _next(self) -> dict[str, Any]:
        while line := self._link.receive():
            message = wire.decode(line)
            if message.get("id") == self._count:
                if "error" in message:
                    raise wire.error_from(message["error"])
                return message
        raise Unavailable(
            "the daemon went away",
            code=Code.DAEMON_RESTARTED,
            unchanged="what it had accepted is carried on by the next one",
            next_step="run the command again",
            retry_after_seconds=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _await_end(pid: int) -> None:
    """The connection ends a moment before the process does, which holds the data folder's lock until then."""
    import psutil

    deadline = time.monotonic() + _END_SECONDS
    try:
        process = psutil.Process(pid)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the daemon has stopped serving, but its process {pid} does not end",
                    code=Code.DAEMON_UNAVAILABLE,
                    unchanged="what was accepted is kept",
                    next_step="wait a moment and look with `apex-mcp status`; if it stays, end that process",
                    retry_after_seconds=_END_SECONDS,
                    details={"pid": pid},
                )
            time.sleep(_POLL_SECONDS)
    except psutil.NoSuchProcess:
        pass
