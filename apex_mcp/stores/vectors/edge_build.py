"""Builds the graph of a copied shard outside the daemon: `python -m apex_mcp.stores.vectors.edge_build FOLDER DIMENSION`.

The engine holds Python's lock for the minutes that a build takes, so two processes are needed: the builder, and a
watcher that waits on the pipe from the daemon and ends the builder when the daemon goes away.
"""

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from apex_mcp.child_process import be_humble, popen_options
from apex_mcp.errors import Code, Unavailable

_BUILD = "--build"
_LONGEST_SECONDS = 3 * 3600
_POLL_SECONDS = 0.1


async def build_in_child(folder: Path, dimension: int | None) -> None:
    """Build in a process of low priority, which ends with this one.

    Raises:
        Unavailable: it could not.
    """
    try:
        process = await asyncio.to_thread(
            _start, *_command(str(folder), str(dimension or 0)), stdin=subprocess.PIPE
        )
    except OSError as error:
        raise _not_built() from error
    assert process.stdin is not None
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            if await _exit_status(process) != 0:
                raise _not_built()
    except TimeoutError as error:
        raise _not_built() from error
    finally:
        process.stdin.close()  # to the watcher that is our end
        await _exit_status(process)


async def _exit_status(process: "subprocess.Popen[Any]") -> int:
    # Not by asyncio's subprocesses, which Windows' selector loop lacks (psycopg needs that loop).
    while (status := process.poll()) is None:  # noqa: ASYNC110  (a process sets no event)
        await asyncio.sleep(_POLL_SECONDS)
    return status


def _start(*command: str, stdin: int) -> "subprocess.Popen[Any]":
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **popen_options(humble=True),
    )


def _not_built() -> Unavailable:
    return Unavailable(
        "the vector index could not be built",
        code=Code.VECTORS_UNAVAILABLE,
        unchanged="searches go on with the index as it is, only slower",
        next_step="nothing: it is tried again later",
    )


def main(arguments: list[str]) -> int:
    """The watcher, or with `--build` the builder."""
    if arguments[0] == _BUILD:
        from apex_mcp.stores.vectors.edge_shard import build

        be_humble()
        build(Path(arguments[1]), int(arguments[2]) or None)
        return 0
    builder = _start(*_command(_BUILD, *arguments), stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_parent, args=(builder,), daemon=True).start()
    return builder.wait()


def _end_with_parent(builder: "subprocess.Popen[Any]") -> None:
    # Not by sys.stdin: its lock, held here, would be waited for at exit.
    while os.read(0, 1):
        pass
    builder.kill()


def _command(*arguments: str) -> list[str]:
    # -P: a folder that happens to be the current one gives no modules.
    return [sys.executable, "-P", "-m", __spec__.name, *arguments]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
