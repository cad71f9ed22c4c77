"""A PostgreSQL as its image leaves it, and what the image's entry point then runs."""

import asyncio
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import ADMIN, EmbeddedPostgres
from apex_mcp.runtime.postgres_programs import find_programs
from tests.docker.files import DOCKER, environment_of, run


@contextmanager
def blank_postgres(folder: Path) -> Generator[EmbeddedPostgres]:
    """A server with its administrator, and nothing of ours under its name."""
    server = EmbeddedPostgres(DataFolder(folder).prepare())
    with asyncio.Runner() as runner:
        runner.run(server.start())
        try:
            with psycopg.connect(as_role(server, ADMIN, "postgres"), autocommit=True) as connection:
                connection.execute("ALTER DATABASE apex RENAME TO aside")
                connection.execute("ALTER ROLE apex RENAME TO aside")
            yield server
        finally:
            runner.run(server.stop())


def as_role(server: EmbeddedPostgres, role: str, database: str, password: str | None = None) -> str:
    """How a role connects to a database; the administrator's password is known."""
    admin = server.conninfo(database=database, role=ADMIN)
    return make_conninfo(admin, user=role, **({"password": password} if password else {}))


def set_up_databases(
    server: EmbeddedPostgres, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run what the image runs when its data folder is empty, with the environment that the compose file gives it."""
    admin = conninfo_to_dict(as_role(server, ADMIN, "postgres"))
    given = {
        "PATH": f"{find_programs(None, None).folder}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": str(admin["host"]),
        "PGPORT": str(admin.get("port", 5432)),
        "PGPASSWORD": str(admin["password"]),
        **environment_of("postgres", environment),
    }
    return run("sh", DOCKER / "postgres" / "10-databases.sh", env=given)
