"""Builds the graph of a copied shard outside the daemon: `python -m apex_mcp.stores.vectors.edge_build FOLDER DIMENSION`.

The engine holds Python's lock for the minutes that a build takes, so two processes are needed: the builder, and a
watcher that waits on the pipe from the daemon and ends the builder when the daemon goes away.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

from apex_mcp.errors import Code, Unavailable

_BUILD = "--build"
_LONGEST_SECONDS = 3 * 3600


async def build_in_child(folder: Path, dimension: int | None) -> None:
    """Build in a process of low priority, which ends with this one.

    Raises:
        Unavailable: it could not.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *_command(str(folder), str(dimension or 0)),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=_quiet_flags(),
        )
    except OSError as error:
        raise _not_built() from error
    assert process.stdin is not None
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            if await process.wait() != 0:
                raise _not_built()
    except TimeoutError as error:
        raise _not_built() from error
    finally:
        process.stdin.close()  # to the watcher that is our end
        with contextlib.suppress(OSError):
            await process.stdin.wait_closed()
        await process.wait()


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

        if sys.platform != "win32":
            os.nice(10)  # on Windows the creation flags say it
        build(Path(arguments[1]), int(arguments[2]) or None)
        return 0
    builder = subprocess.Popen(
        _command(_BUILD, *arguments), stdin=subprocess.DEVNULL, creationflags=_quiet_flags()
    )
    threading.Thread(target=_end_with_parent, args=(builder,), daemon=True).start()
    return builder.wait()


def _end_with_parent(builder: "subprocess.Popen[bytes]") -> None:
    # Not by sys.stdin: its lock, held here, would be waited for at exit.
    while os.read(0, 1):
        pass
    builder.kill()


def _command(*arguments: str) -> list[str]:
    # -P: a folder that happens to be the current one gives no modules.
    return [sys.executable, "-P", "-m", __spec__.name, *arguments]


def _quiet_flags() -> int:
    if sys.platform == "win32":
        return subprocess.BELOW_NORMAL_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
