"""What restores leave in a data folder: the memory that one replaced, and what one that was killed had built."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

REPLACED = "replaced-"
UNFINISHED = "restoring-"


def replaced_memories(home: Path) -> list[tuple[str, datetime]]:
    """Folders that hold what a restore moved aside, by name and time, the newest first: only the user may remove them."""
    found = [(path.name, path.stat().st_mtime) for path in home.glob(f"{REPLACED}*") if path.is_dir()]
    return [(name, datetime.fromtimestamp(time, UTC)) for name, time in sorted(found, reverse=True)]


def remove_unfinished(home: Path) -> None:
    """Remove what killed restores had built; for whoever holds the folder's lock."""
    for left_over in home.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left_over, ignore_errors=True)
