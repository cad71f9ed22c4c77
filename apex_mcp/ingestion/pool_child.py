"""The other end of `pool.py`: one call at a time, from standard input to standard output.

A message is eight bytes of length and a pickle: a call is (function, args), an answer (worked, value or
error).
"""

import importlib
import os
import pickle
import queue
import signal
import struct
import sys
import threading
from typing import Any, BinaryIO

from apex_mcp.errors import ApexError, Code, InputError, Invariant

HEADER = struct.Struct(">Q")


def write_message(stream: BinaryIO, payload: bytes) -> None:
    """Send one message."""
    stream.write(HEADER.pack(len(payload)) + payload)
    stream.flush()


def read_message(stream: BinaryIO) -> bytes | None:
    """Wait for one message; None when the other side has gone, even halfway."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (length,) = HEADER.unpack(header)
    payload = stream.read(length)
    return payload if len(payload) == length else None


def main() -> None:
    """Answer calls until the parent closes the pipe or dies."""
    calls, answers = _take_pipes()
    _be_humble()
    start = read_message(calls)
    if start is None:
        return
    # The parent's import path, so that every function it can name is found here too.
    sys.path[:] = pickle.loads(start)
    write_message(answers, pickle.dumps(os.getpid()))
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # A thread waits for the pipe, so that the parent's death also ends a call that never returns.
    threading.Thread(target=_receive, args=(calls, waiting), daemon=True).start()
    while True:
        write_message(answers, _answer(waiting.get()))


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes to ourselves: whatever a parser prints goes nowhere, and what it reads is empty."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return calls, answers


def _be_humble() -> None:
    """Lower priority, no end by the terminal's Ctrl-C (the parent decides), no core dumps, no dialogs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        import msvcrt

        msvcrt.SetErrorMode(  # the priority is given by the parent's creation flags
            msvcrt.SEM_FAILCRITICALERRORS | msvcrt.SEM_NOGPFAULTERRORBOX | msvcrt.SEM_NOOPENFILEERRORBOX
        )
    else:
        import resource

        os.nice(10)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _receive(calls: BinaryIO, waiting: queue.SimpleQueue[bytes]) -> None:
    while (message := read_message(calls)) is not None:
        waiting.put(message)
    os._exit(0)


def _answer(message: bytes) -> bytes:
    function = "?"
    try:
        function, args = pickle.loads(message)
        module, _, name = function.partition(":")
        value: Any = getattr(importlib.import_module(module), name)(*args)
        return pickle.dumps((True, value), protocol=pickle.HIGHEST_PROTOCOL)
    except ApexError as error:
        return pickle.dumps((False, error))
    except MemoryError:
        return pickle.dumps((
            False,
            InputError("the document needs too much memory", code=Code.PARSER_MEMORY),
        ))
    except Exception as error:  # noqa: BLE001  (a border: what is unknown crosses it as its type's name only)
        return pickle.dumps((
            False,
            Invariant(f"{type(error).__name__} in {function}", details={"function": function}),
        ))


if __name__ == "__main__":
    main()
