"""Room on the data folder's disk. The index maps files into memory: a write to a full disk would end its process."""

import shutil
from pathlib import Path

from apex_mcp.errors import Code, Unavailable

# PostgreSQL writes ahead in segments of 16 MB, and the index in files of 32 MB.
LEAST_FREE_BYTES = 96 * 1024 * 1024


def require_room(folder: Path | None, more_bytes: int = 0) -> None:
    """Pass if something more can be stored; None where servers store everything.

    Args:
        folder: the data folder.
        more_bytes: how much it is, where that is known.

    Raises:
        Unavailable: the disk is all but full (`disk_full`); reading still works.
    """
    if folder is None:
        return
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # what is wrong with the folder shows when it is used
    needed = LEAST_FREE_BYTES + more_bytes
    if free < needed:
        raise Unavailable(
            f"the data folder's disk has {free // 1_000_000} MB left, and storing needs {needed // 1_000_000}",
            code=Code.DISK_FULL,
            unchanged="nothing was stored",
            next_step="free space on that disk; what was accepted before goes on by itself, and searches go on meanwhile",
            retry_after_seconds=30,
        )
