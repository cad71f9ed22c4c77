"""One PostgreSQL for the run, one migrated template, one clone of it for each test."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.schema import ensure_schema


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    postgres = EmbeddedPostgres(DataFolder(tmp_path_factory.mktemp("home") / "data").prepare())
    with asyncio.Runner() as runner:
        conninfo = runner.run(postgres.start())
        runner.run(ensure_schema(conninfo))
        yield conninfo
        runner.run(postgres.stop())


@pytest.fixture
def conninfo(template: str) -> str:
    name = f"test_{uuid4().hex}"
    with psycopg.connect(make_conninfo(template, dbname="postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE apex STRATEGY file_copy").format(sql.Identifier(name))
        )
    return make_conninfo(template, dbname=name)


@pytest.fixture
async def record(conninfo: str) -> AsyncGenerator[Record]:
    async with open_record(conninfo) as opened:
        yield opened
