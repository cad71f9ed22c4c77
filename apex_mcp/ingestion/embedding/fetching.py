"""The parent's side of fetching a model: start `fetch`, pass its progress on, make its end an error."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from apex_mcp.errors import ApexError, Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding.fetch import ENVIRONMENT, End
from apex_mcp.ingestion.embedding.protocol import FetchProgress, OnProgress

_BY_WORDS = "search is by words until it is there"


async def fetch_model(name: str, target: Path, on_progress: OnProgress | None = None) -> None:
    """Fetch the model that fastembed knows by `name` into the folder `target`.

    Raises:
        Unavailable: not now: no connection, or the disk is full.
        Rejected: never, with these settings: no such model, no fastembed on this machine.
    """
    loop = asyncio.get_running_loop()

    def pass_on(progress: FetchProgress) -> None:
        if on_progress:
            loop.call_soon_threadsafe(on_progress, progress)

    process = _start(name, target)
    following = asyncio.create_task(asyncio.to_thread(_follow, process, pass_on))
    try:
        end = await asyncio.shield(following)
    finally:
        # When the caller was cancelled: the thread ends with the process.
        process.kill()
        await following
    if error := _ERRORS.get(end):
        raise error()


def _start(name: str, target: Path) -> subprocess.Popen[str]:
    # No asyncio subprocess: Windows' selector loop, which PostgreSQL's driver needs, has none.
    return subprocess.Popen(
        # -P: nothing in the current folder may pass for a module.
        [sys.executable, "-P", "-m", "apex_mcp.ingestion.embedding.fetch", name, str(target)],
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="ascii",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _follow(process: subprocess.Popen[str], on_progress: Callable[[FetchProgress], None]) -> End:
    """Read until the process ends; one that ended without a word was killed."""
    end = End.UNREACHABLE
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            message = json.loads(line)
            if "end" in message:
                end = End(message["end"])
            else:
                on_progress(FetchProgress(done_bytes=message["done"], total_bytes=message["total"]))
    return end


def _unreachable() -> ApexError:
    return Unavailable(
        "the embedding model could not be fetched from the model hub",
        code=Code.EMBEDDER_UNAVAILABLE,
        unchanged=_BY_WORDS,
        next_step="with a connection `apex-mcp setup` fetches it; "
        "without one, set APEX_EMBEDDER to a model's folder, or to none",
    )


def _disk_full() -> ApexError:
    return Unavailable(
        "the disk is full, so the embedding model could not be fetched",
        code=Code.DISK_FULL,
        unchanged=_BY_WORDS,
        next_step="make room, then run `apex-mcp setup`",
    )


def _not_writable() -> ApexError:
    return Rejected(
        "the embedding model could not be stored: `models` in the data folder cannot be written",
        code=Code.DATA_FOLDER_UNUSABLE,
        unchanged=_BY_WORDS,
        next_step="correct the folder's permissions, then run `apex-mcp setup`",
    )


def _unknown_model() -> ApexError:
    return Rejected(
        "APEX_EMBEDDER names a model that fastembed does not have",
        code=Code.SETTINGS_INVALID,
        unchanged=_BY_WORDS,
        next_step="leave it out for the default, or give a name from fastembed's list, "
        "a model's folder, `openai` or `none`",
    )


def _not_installed() -> ApexError:
    return Rejected(
        "no local embedding model can run on this machine: fastembed is not installed here",
        code=Code.SETTINGS_INVALID,
        unchanged=_BY_WORDS,
        next_step="set APEX_EMBEDDER=openai for an OpenAI-compatible endpoint, or APEX_EMBEDDER=none",
    )


_ERRORS: dict[End, Callable[[], ApexError]] = {
    End.UNREACHABLE: _unreachable,
    End.DISK_FULL: _disk_full,
    End.NOT_WRITABLE: _not_writable,
    End.UNKNOWN_MODEL: _unknown_model,
    End.NOT_INSTALLED: _not_installed,
}
