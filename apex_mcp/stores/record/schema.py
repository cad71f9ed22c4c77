"""Brings the database's schema to the version that this code needs, by Alembic."""

import asyncio
from importlib.resources import as_file, files
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from apex_mcp.errors import Code, Rejected
from apex_mcp.stores.record.address import refusal
from apex_mcp.stores.record.bounded import BoundedConnection
from apex_mcp.stores.record.database import ANSWER_SECONDS, translated
from apex_mcp.stores.record.rights import refused, refused_making, require_rights

HEAD = "0006"
OLDEST_MAJOR = 16
# One migration at a time per database, whatever number of processes start at once.
_LOCK: LiteralString = "SELECT pg_advisory_lock(hashtext('apex-mcp migrations'))"
_CURRENT: LiteralString = "SELECT version_num FROM alembic_version"


async def ensure_schema(conninfo: str) -> None:
    """Migrate if needed. Costs two short queries when there is nothing to do.

    Raises:
        Unavailable: the database does not answer.
        Rejected: it was written by a newer version (`schema_newer`), is of too old a PostgreSQL, does not let us in, or does
            not let us do what is needed (`settings_invalid`).
    """
    with translated():
        async with await _connect(conninfo) as connection:
            _require_version(connection.info.server_version // 10_000)
            try:
                row = await (await connection.execute(_CURRENT)).fetchone()
            except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
                # Of a table that may not be read, `require_rights` says so.
                row = None
            outdated = row is None or row[0] != HEAD
            await require_rights(connection, to_migrate=outdated)
        if outdated:
            try:
                await asyncio.to_thread(_migrate, conninfo)
            except psycopg.errors.InsufficientPrivilege as error:
                raise refused_making() from error


def _require_version(major: int) -> None:
    if major < OLDEST_MAJOR:
        raise refused(
            f"the server is PostgreSQL {major}, and {OLDEST_MAJOR} is the oldest that will do",
            "name a newer server in APEX_DATABASE_URL (DATABASE_URL), or bring this one up to date (pg_upgrade)",
        )


async def _connect(conninfo: str) -> BoundedConnection[TupleRow]:
    try:
        connection = await BoundedConnection[TupleRow].connect(conninfo, autocommit=True)
    except psycopg.OperationalError as error:
        if (refused := refusal(error)) is not None:
            raise refused from error
        raise
    connection.answer_seconds = ANSWER_SECONDS
    return connection


def _migrate(conninfo: str) -> None:
    # Imported here: a start that has nothing to migrate does not pay for SQLAlchemy.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(conninfo), poolclass=NullPool
    )
    with (
        as_file(files("apex_mcp.stores.record").joinpath("migrations")) as folder,
        engine.connect() as connection,
    ):
        connection.execute(text(_LOCK))
        connection.commit()
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Rejected(
                "the database was written by a newer version of apex-mcp",
                code=Code.SCHEMA_NEWER,
                unchanged="the database was not touched",
                next_step="install the newer apex-mcp (uvx apex-mcp@latest), or restore a backup from before",
            ) from error
        except DBAPIError as error:
            # What it wraps is the driver's, which has one place where it becomes ours.
            raise (error.orig or error) from error
    engine.dispose()
