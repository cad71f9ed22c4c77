"""What the pool's tests call in a child."""

import os
import signal
import sys
import time
from pathlib import Path

from apex_mcp.errors import Code, InputError


def double(value: int) -> int:
    return 2 * value


def process_id() -> int:
    return os.getpid()


def abort() -> None:
    os.abort()


def leave() -> None:
    os._exit(3)


def be_killed_once(sign: str) -> str:
    if not Path(sign).exists():
        Path(sign).touch()
        # On Windows any signal but two means the same.
        os.kill(os.getpid(), signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    return "done"


def count_and_abort(folder: str) -> None:
    Path(folder, str(os.getpid())).touch()
    os.abort()


def hang(started: str) -> None:
    Path(started).write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


def hold(started: str, until: str) -> None:
    Path(started).touch()
    while not Path(until).exists():
        time.sleep(0.01)


def swell(megabytes: int) -> int:
    held: list[bytearray] = []
    while len(held) < megabytes:
        held.append(bytearray(os.urandom(1_000_000)))
    return len(held)


def ask_for_the_impossible() -> int:
    return len(bytearray(1 << 60))


def print_to_stdout() -> str:
    os.write(1, b"\x00" * 100)
    print("noise")  # noqa: T201
    sys.stdin.read()
    return "done"


def raise_apex_error() -> None:
    raise InputError("three pages are scanned", code=Code.NO_TEXT, details={"pages": 3})


def raise_with_content() -> None:
    raise KeyError("secret words")


def make_lambda() -> object:
    return lambda: None


def note_order(folder: str, name: str) -> None:
    with Path(folder, "order").open("a", encoding="utf-8") as file:
        file.write(name)


def loaded_modules() -> list[str]:
    return sorted(sys.modules)


def niceness() -> int:
    return os.nice(0)
