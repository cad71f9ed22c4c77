"""Fetch a local model, in a process of its own: `python -m apex_mcp.ingestion.embedding.fetch NAME FOLDER`.

Prints one JSON object a line: `{"done": bytes, "total": bytes}` while it goes on, and `{"end": ...}` with a
value of `End`. The hub's library stays out of the daemon, can be ended at any moment, and resumes.
"""

import contextlib
import errno
import json
import os
import shutil
import sys
import threading
import time
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path

# What the hub's library reads when it is imported.
ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # A token that lies in the user's home is not ours to send.
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    # Xet's transfers know neither these timeouts nor the partial files that progress is read from.
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_ETAG_TIMEOUT": "10",
    "HF_HUB_DOWNLOAD_TIMEOUT": "15",
}

_TICK_SECONDS = 0.5
_STALLED_SECONDS = 60.0
_TOKENIZER_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class End(StrEnum):
    """How a fetch ended."""

    FETCHED = "fetched"
    UNREACHABLE = "unreachable"
    UNKNOWN_MODEL = "unknown_model"
    NOT_INSTALLED = "not_installed"
    DISK_FULL = "disk_full"
    NOT_WRITABLE = "not_writable"


_ENDS_BY_ERRNO = {
    errno.ENOSPC: End.DISK_FULL,
    errno.EDQUOT: End.DISK_FULL,
    errno.EACCES: End.NOT_WRITABLE,
    errno.EPERM: End.NOT_WRITABLE,
    errno.EROFS: End.NOT_WRITABLE,
}


def fetch(name: str, target: Path) -> End:
    """Fetch the model into `target`, which appears only when it is complete."""
    from filelock import FileLock

    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may want the same model: the second waits, and finds it there.
        with FileLock(target.with_name(f"{target.name}.lock")):
            if target.is_dir():
                return End.FETCHED
            end = _download(name, partial)
            if end is End.FETCHED:
                shutil.rmtree(partial / ".cache", ignore_errors=True)
                partial.rename(target)
            return end
    except OSError as error:
        return _ENDS_BY_ERRNO.get(error.errno or 0, End.UNREACHABLE)
    except Exception:  # noqa: BLE001  (the hub's and its HTTP library's many kinds; all mean: not now)
        return End.UNREACHABLE


def _download(name: str, partial: Path) -> End:
    try:
        from fastembed import TextEmbedding
    except ImportError:
        return End.NOT_INSTALLED
    from huggingface_hub import (
        HfApi,
        snapshot_download,  # pyright: ignore[reportUnknownVariableType]
    )

    known = TextEmbedding._list_supported_models()  # pyright: ignore[reportPrivateUsage]  (the public one: plain dicts)
    model = next((one for one in known if one.model.lower() == name.lower()), None)
    if model is None or model.sources.hf is None:
        return End.UNKNOWN_MODEL
    patterns = [*_TOKENIZER_FILES, model.model_file, *model.additional_files]
    info = HfApi().model_info(model.sources.hf, timeout=10, files_metadata=True)
    files = [one for one in info.siblings or [] if any(fnmatch(one.rfilename, each) for each in patterns)]
    total_bytes = sum(one.size or 0 for one in files)
    threading.Thread(target=_report, args=(partial, total_bytes), daemon=True).start()
    snapshot_download(
        model.sources.hf, revision=info.sha, local_dir=partial, allow_patterns=patterns, etag_timeout=10
    )
    return End.FETCHED if (partial / model.model_file).is_file() else End.UNREACHABLE


def _report(partial: Path, total_bytes: int) -> None:
    """Tell the progress as the files grow; end the process when they don't: the hub's client would wait."""
    done_bytes, grew_at = -1, time.monotonic()
    while True:
        now_bytes = _size(partial)
        if now_bytes != done_bytes:
            done_bytes, grew_at = now_bytes, time.monotonic()
        if time.monotonic() - grew_at > _STALLED_SECONDS:
            _say({"end": End.UNREACHABLE})
            os._exit(1)
        _say({"done": min(done_bytes, total_bytes), "total": total_bytes})
        time.sleep(_TICK_SECONDS)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        # Files are moved and removed while they are counted.
        with contextlib.suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _say(message: dict[str, object]) -> None:
    try:
        os.write(1, json.dumps(message).encode("ascii") + b"\n")
    except OSError:
        # Nobody listens any more: the parent is gone, and so is the reason to go on.
        os._exit(1)


if __name__ == "__main__":
    _say({"end": fetch(sys.argv[1], Path(sys.argv[2]))})
