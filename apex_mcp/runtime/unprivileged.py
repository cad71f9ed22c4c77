"""Running PostgreSQL for root: as an unprivileged user, to whom nothing is opened but its own two folders.

PostgreSQL refuses to run as root. Its folders stay inside the data folder, which is closed, and often stands
in another closed one, such as root's home. The unprivileged user could not walk there by path, so the child
inherits the open folders and names them by `/proc/self/fd/<n>`, which leads straight to each. Programs that
it cannot reach are copied once to a public place.
"""

import contextlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

from apex_mcp.errors import Code, Rejected
from apex_mcp.runtime.children import OsUser

PUBLIC_PLACES = ("/var/cache", tempfile.gettempdir())


def unprivileged_user() -> OsUser | None:
    """Whom PostgreSQL must run as: `nobody` when we are root, else None, which means as ourselves.

    Raises:
        Rejected: we are root where this cannot be done (`data_folder_unusable`).
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        entry = None
    if entry is None or entry.pw_uid == 0 or not Path("/proc/self/fd").is_dir():
        raise Rejected(
            "PostgreSQL refuses to run as root, and no unprivileged user can be used here",
            code=Code.DATA_FOLDER_UNUSABLE,
            next_step="run apex-mcp as an ordinary user",
        )
    return OsUser(entry.pw_uid, entry.pw_gid)


@contextlib.contextmanager
def reachable(folders: Sequence[Path], user: OsUser | None) -> Generator[tuple[list[str], list[int]]]:
    """Paths by which a child of `user` reaches these folders, and the descriptors that it must inherit."""
    if user is None:
        yield [str(folder) for folder in folders], []
        return
    with contextlib.ExitStack() as stack:
        descriptors: list[int] = []
        for folder in folders:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            descriptors.append(descriptor)
        yield [f"/proc/self/fd/{descriptor}" for descriptor in descriptors], descriptors


def give(folder: Path, user: OsUser | None) -> None:
    """Make `user` the owner of one folder of ours."""
    if sys.platform != "win32" and user is not None:
        os.chown(folder, user.uid, user.gid)


def public_copy(package: Path, name: str) -> Path:
    """A copy of an installed package, with its bundled libraries, that all users can run; made once a `name`.

    Raises:
        Rejected: no public place takes it (`data_folder_unusable`).
    """
    for place in PUBLIC_PLACES:
        root = Path(place) / f"apex-mcp-{name}"
        with contextlib.suppress(OSError):
            if not root.exists():
                _copy(package, root)
            owner = root.lstat()
            if stat.S_ISDIR(owner.st_mode) and owner.st_uid == 0 and not owner.st_mode & 0o022:
                return root / package.name
    raise Rejected(
        "only root can reach PostgreSQL's programs, and they could not be copied elsewhere",
        code=Code.DATA_FOLDER_UNUSABLE,
        next_step="run apex-mcp as an ordinary user, or install it where every user can read, such as /opt",
    )


def _copy(package: Path, root: Path) -> None:
    """Copy beside `root` and rename, so that a copy is whole or absent."""
    unfinished = Path(tempfile.mkdtemp(prefix=root.name + ".", dir=root.parent))
    try:
        for source in (package, package.with_name(package.name + ".libs")):
            if source.is_dir():
                shutil.copytree(
                    source, unfinished / source.name, ignore=shutil.ignore_patterns("include", "*.py*")
                )
        for folder, _, files in os.walk(unfinished):
            Path(folder).chmod(0o755)
            for file in files:
                path = Path(folder) / file
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
