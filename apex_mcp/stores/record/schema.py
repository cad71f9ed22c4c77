"""Brings the database's schema to the version that this code needs, by Alembic."""

import asyncio
from importlib.resources import as_file, files
from typing import LiteralString

import psycopg

from apex_mcp.errors import Code, Rejected
from apex_mcp.stores.record.address import refusal
from apex_mcp.stores.record.database import translated

HEAD = "0003"
# One migration at a time per database, whatever number of processes start at once.
_LOCK: LiteralString = "SELECT pg_advisory_lock(hashtext('apex-mcp migrations'))"
_CURRENT: LiteralString = "SELECT version_num FROM alembic_version"


async def ensure_schema(conninfo: str) -> None:
    """Migrate if needed. Costs one short query when there is nothing to do.

    Raises:
        Unavailable: the database does not answer.
        Rejected: it was written by a newer version (`schema_newer`), or does not let us in (`settings_invalid`).
    """
    with translated():
        async with await _connect(conninfo) as connection:
            try:
                row = await (await connection.execute(_CURRENT)).fetchone()
            except psycopg.errors.UndefinedTable:
                row = None
        if row is None or row[0] != HEAD:
            await asyncio.to_thread(_migrate, conninfo)


async def _connect(conninfo: str) -> psycopg.AsyncConnection:
    try:
        return await psycopg.AsyncConnection.connect(conninfo)
    except psycopg.OperationalError as error:
        if (refused := refusal(error)) is not None:
            raise refused from error
        raise


def _migrate(conninfo: str) -> None:
    # Imported here: a start that has nothing to migrate does not pay for SQLAlchemy.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError
    from sqlalchemy import create_engine, text
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
    engine.dispose()
