"""The process that owns an embedded index: `python -m apex_mcp.stores.vectors.edge_child FOLDER`.

Messages are pickles: a command is (name of a method of `Engine`, arguments by position, by name), an answer (worked,
value or error). The process ends with the pipe, without a flush: as after a crash, the record replays the rest.
"""

import os
import pickle
import sys
from pathlib import Path

from apex_mcp.child_process import be_quiet, read_message, take_pipes, write_message
from apex_mcp.errors import ApexError
from apex_mcp.stores.vectors.edge_engine import Engine
from apex_mcp.stores.vectors.edge_errors import engine_failed, unavailable


def main(folder: Path) -> None:
    """Answer commands until the daemon closes the pipe or dies."""
    calls, answers = take_pipes()
    be_quiet()
    engine = Engine(folder)
    try:
        while (message := read_message(calls)) is not None:
            write_message(answers, _answer(engine, message))
    except OSError:
        pass  # the daemon died while its command ran
    os._exit(0)


def _answer(engine: Engine, message: bytes) -> bytes:
    """The one place where the engine's and the disk's errors become ours."""
    try:
        command, arguments, named = pickle.loads(message)
        answer = True, getattr(engine, command)(*arguments, **named)
    except ApexError as error:
        answer = False, error
    except OSError as error:
        answer = False, unavailable(type(error).__name__)
    except BaseException as error:  # noqa: BLE001  (the engine's panics are no Exceptions)
        answer = False, engine_failed(type(error).__name__)
    return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
