"""One PostgreSQL for the run, one migrated template, one clone of it for each test."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import ADMIN, ROLE, EmbeddedPostgres
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.schema import ensure_schema


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedPostgres]:
    server = EmbeddedPostgres(DataFolder(tmp_path_factory.mktemp("home") / "data").prepare())
    with asyncio.Runner() as runner:
        runner.run(ensure_schema(runner.run(server.start())))
        yield server
        runner.run(server.stop())


def create_database(postgres: EmbeddedPostgres, template: str) -> str:
    """A new database; how to connect to it."""
    name = f"test_{uuid4().hex}"
    admin = postgres.conninfo(database="postgres", role=ADMIN)
    with psycopg.connect(admin, autocommit=True) as connection:
        query = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy")
        connection.execute(query.format(*map(sql.Identifier, (name, template, ROLE))))
    return postgres.conninfo(database=name)


@pytest.fixture
def conninfo(postgres: EmbeddedPostgres) -> str:
    return create_database(postgres, "apex")


@pytest.fixture
def empty_conninfo(postgres: EmbeddedPostgres) -> str:
    return create_database(postgres, "template1")


@pytest.fixture
async def record(conninfo: str) -> AsyncGenerator[Record]:
    async with open_record(conninfo) as opened:
        yield opened
