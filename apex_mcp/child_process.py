"""Child processes that answer messages over their standard input and output; both ends of the pipes.

A message is eight bytes of length and that many bytes more. One is under way at a time. A child ends when the pipe does,
that is at the latest with its parent.
"""

import contextlib
import os
import signal
import struct
import subprocess
import sys
from typing import Any, BinaryIO, cast

_HEADER = struct.Struct(">Q")
_END_SECONDS = 10


class Child:
    """A started child, as its parent sees it.

    Args:
        module: what it runs.
        arguments: of its command line.
        humble: whether it steps back behind other processes.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self, module: str, *arguments: str, humble: bool) -> None:
        self._process = subprocess.Popen(
            # -P: a folder that happens to be the current one is not imported from.
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            **popen_options(humble=humble),
        )
        self._calls = cast("BinaryIO", self._process.stdin)
        self._answers = cast("BinaryIO", self._process.stdout)

    def exchange(self, message: bytes) -> bytes | None:
        """The answer to a message; None when the child has gone."""
        with contextlib.suppress(OSError):
            write_message(self._calls, message)
            return read_message(self._answers)
        return None

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Have the process die, without waiting; from any thread."""
        self._process.kill()

    def end(self) -> int | None:
        """Kill the process and give its resources back; its exit status. Again is no harm."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_END_SECONDS)
        for pipe in (self._calls, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        return self._process.returncode


def write_message(stream: BinaryIO, payload: bytes) -> None:
    """Send one message."""
    stream.write(_HEADER.pack(len(payload)) + payload)
    stream.flush()


def read_message(stream: BinaryIO) -> bytes | None:
    """Wait for one message; None when the other side has gone, even halfway."""
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    (length,) = _HEADER.unpack(header)
    payload = stream.read(length)
    return payload if len(payload) == length else None


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """In the child: keep the pipes to ourselves. Whatever a library prints goes nowhere, and what it reads is empty."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return calls, answers


def be_quiet() -> None:
    """In the child: no end by the terminal's Ctrl-C (the parent decides), no core dumps, no dialogs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.SetErrorMode(
            msvcrt.SEM_FAILCRITICALERRORS | msvcrt.SEM_NOGPFAULTERRORBOX | msvcrt.SEM_NOOPENFILEERRORBOX
        )
    else:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def be_humble() -> None:
    """In the child: lower priority. On Windows it was given at the start."""
    if sys.platform != "win32":
        os.nice(10)


def popen_options(*, humble: bool) -> dict[str, Any]:
    """How our own children start: without a window, apart from the terminal; `humble` is for Windows here."""
    if sys.platform == "win32":
        priority = subprocess.BELOW_NORMAL_PRIORITY_CLASS if humble else 0
        return {"creationflags": subprocess.CREATE_NO_WINDOW | priority}
    # A group of its own, so that a Ctrl-C in the terminal does not reach it before it can ignore it.
    return {"process_group": 0}
