"""Which files of a folder are worth ingesting."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from apex_mcp.ingestion.detection import SUPPORTED_EXTENSIONS


@dataclass(slots=True)
class Found:
    """Files to ingest, and what was passed over: unsupported ones by extension, by number what is hidden, and links elsewhere."""

    files: list[Path] = field(default_factory=list[Path])
    unsupported: Counter[str] = field(default_factory=Counter[str])
    hidden: int = 0
    elsewhere: int = 0
    unreadable: list[Path] = field(default_factory=list[Path])

    def passed_over(self) -> str:
        """In words, or nothing."""
        parts: list[str] = []
        if self.unsupported:
            kinds = ", ".join(
                f"{count} {extension or 'without extension'}"
                for extension, count in self.unsupported.most_common(5)
            )
            parts.append(f"{self.unsupported.total()} of unsupported types ({kinds})")
        if self.hidden:
            parts.append(f"{self.hidden} hidden")
        if self.elsewhere:
            parts.append(f"{self.elsewhere} links out of the folder or in circles")
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} unreadable folders")
        return f"passed over: {', '.join(parts)}" if parts else ""


def find_files(paths: Iterable[Path]) -> Found:
    """Collect files: those that are named as they are, and in folders what can be read, in a stable order.

    Links to folders are not followed, so a loop ends. What is not there is kept: accepting it says so.
    """
    found = Found()
    for path in paths:
        if path.is_dir():
            _walk(path, found)
        else:
            found.files.append(path.absolute())
    found.files = list(dict.fromkeys(found.files))
    return found


def _walk(folder: Path, found: Found) -> None:
    def unreadable(error: OSError) -> None:
        found.unreadable.append(Path(error.filename))

    inside = folder.resolve()
    for name, folders, files in os.walk(folder.absolute(), onerror=unreadable):
        visible = sorted(entry for entry in folders if not entry.startswith("."))
        found.hidden += len(folders) - len(visible)
        folders[:] = visible
        for file in sorted(files):
            extension = Path(file).suffix.lower()
            # `~$report.docx` is what Word keeps beside an open document.
            if file.startswith((".", "~$")):
                found.hidden += 1
            elif not _is_inside(Path(name, file), inside):
                # The user named this folder, not what a link in it leads to.
                found.elsewhere += 1
            elif extension in SUPPORTED_EXTENSIONS:
                found.files.append(Path(name, file))
            else:
                found.unsupported[extension] += 1


def _is_inside(path: Path, folder: Path) -> bool:
    """False for a link that leads out of the folder, and for one that leads in circles."""
    try:
        real = os.path.realpath(path, strict=True)
    except OSError as error:
        if path.is_symlink() and not isinstance(error, FileNotFoundError | PermissionError):
            return False
        # What is not there, or not ours to read, is kept: accepting it says so.
        real = os.path.realpath(path)
    return Path(real).is_relative_to(folder)
