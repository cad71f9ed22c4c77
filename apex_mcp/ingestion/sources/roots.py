"""Which folders may be a root: files are read below it, so it is somebody's folder and not a whole system."""

import os
import sys
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

# Neither these nor anything below them.
_SYSTEM = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/private/etc",
    "/proc",
    "/sbin",
    "/sys",
    "/System",
)
# Not these themselves: they hold all users, all programs or whole drives. A folder below them is a choice.
_TOO_WIDE = (
    "/Applications",
    "/Library",
    "/Users",
    "/Volumes",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/private",
    "/private/var",
    "/run",
    "/usr",
    "/var",
)
_WINDOWS_SYSTEM = ("SystemRoot", "ProgramFiles", "ProgramFiles(x86)")
_WINDOWS_TOO_WIDE = ("ProgramData", "PUBLIC")


def usable_root(path: Path) -> bool:
    """Whether files may be read below this folder; a link counts as what it leads to."""
    if not path.is_absolute():
        return False
    try:
        real = path.resolve()
    except (OSError, RuntimeError):
        return False
    return not any(_is_system(candidate) for candidate in (path, real))


def _is_system(path: PurePath) -> bool:
    if path == path.parent:
        return True
    if isinstance(path, PureWindowsPath):
        system, too_wide = _windows_folders(path)
    else:
        system = [PurePosixPath(folder) for folder in _SYSTEM]
        too_wide = [PurePosixPath(folder) for folder in _TOO_WIDE]
    folded = _fold(path)
    return any(_fold(folder) in (folded, *folded.parents) for folder in system) or any(
        _fold(folder) == folded for folder in too_wide
    )


def _windows_folders(path: PureWindowsPath) -> tuple[list[PureWindowsPath], list[PureWindowsPath]]:
    def known(names: tuple[str, ...]) -> list[PureWindowsPath]:
        return [PureWindowsPath(os.environ[name]) for name in names if os.environ.get(name)]

    return known(_WINDOWS_SYSTEM), [*known(_WINDOWS_TOO_WIDE), PureWindowsPath(path.anchor) / "Users"]


def _fold(path: PurePath) -> PurePath:
    # macOS file systems ignore case as a rule; Windows paths compare without case by themselves.
    return type(path)(str(path).casefold()) if sys.platform == "darwin" else path


def path_from_uri(uri: str) -> Path | None:
    """The folder that a `file://` URI names, or None for anything else."""
    local = local_path(uri, windows=os.name == "nt")
    return Path(local) if local is not None else None


def local_path(uri: str, *, windows: bool) -> str | None:
    """Decode a `file://` URI into a path of that system: `file:///c%3A/a%20b` is `c:/a b` on Windows."""
    try:
        parts = urlsplit(uri)
        path = unquote(parts.path, errors="strict")
    except (ValueError, UnicodeDecodeError):
        return None
    if parts.scheme != "file" or not path or "\0" in path:
        return None
    host = parts.netloc if parts.netloc.casefold() != "localhost" else ""
    if host:
        return f"//{host}{path}" if windows else None
    if windows and len(path) > 2 and path[0] == "/" and path[2] == ":":
        return path[1:]
    return path
