"""Named points at which this process can be made to fail, hang or die, once: how the tests prove what a crash leaves behind.

`reach` does nothing unless `APEX_FAULTS` names a folder. There a file `<point>.<action>` asks for one fault, and is taken away
by the process that meets it first, so that the same point passes when it is reached again.
"""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from apex_mcp.errors import Code, Unavailable

ACTIONS = ("fail", "stop", "kill")


def reach(point: str) -> None:
    """Meet the fault that is asked for at this point, if any.

    Args:
        point: which; the store or step, and where in it: `record.commit.before`.

    Raises:
        Unavailable: what was asked for is a failure.
    """
    folder = _folder()
    if folder is None:
        return
    for action in ACTIONS:
        asked = folder / f"{point}.{action}"
        try:
            asked.rename(asked.with_suffix(f".{action}-met"))
        except OSError:
            continue
        _meet(action)


@contextmanager
def around(work: str) -> Generator[None]:
    """The points before and after a write or a step: `<work>.before`, and `<work>.after` where it succeeded.

    Raises:
        Unavailable: as `reach`.
    """
    reach(f"{work}.before")
    yield
    reach(f"{work}.after")


def _meet(action: str) -> None:
    if action == "fail":
        raise Unavailable(
            "a fault was asked for",
            code=Code.RECORD_UNAVAILABLE,
            next_step="unset APEX_FAULTS outside of tests",
        )
    # Windows has neither signal, and the tests that ask for them skip there.
    os.kill(os.getpid(), signal.Signals["SIGSTOP" if action == "stop" else "SIGKILL"])


@cache
def _folder() -> Path | None:
    name = os.environ.get("APEX_FAULTS")
    return Path(name) if name else None
