"""The other end of `pool.py`: one call at a time, from standard input to standard output.

Messages are pickles: a call is (function, args), an answer (worked, value or error).
"""

import importlib
import os
import pickle
import queue
import sys
import threading
from typing import Any, BinaryIO

from apex_mcp.child_process import be_humble, be_quiet, read_message, take_pipes, write_message
from apex_mcp.errors import ApexError, Code, InputError, Invariant


def main() -> None:
    """Answer calls until the parent closes the pipe or dies."""
    calls, answers = take_pipes()
    be_quiet()
    be_humble()
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
