"""A database that goes away is said within seconds, and used again as soon as it is back."""

from pathlib import Path

import anyio
import psutil
import pytest

from apex_mcp.errors import ApexError, Code, Invariant, Unavailable
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.stores.record.database import Database
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_database_that_is_away_is_said_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    server = EmbeddedPostgres(DataFolder(tmp_path / "home").prepare())
    database = Database(await server.start())
    try:
        await database.open()
        assert await database.fetch_one("SELECT 1 AS one") == {"one": 1}
        await server.stop()
        with anyio.fail_after(60):
            # Connections that broke first, then none: each is said.
            for _ in range(3):
                with pytest.raises(Unavailable) as caught:
                    await database.fetch_one("SELECT 1 AS one")
                assert caught.value.code is Code.RECORD_UNAVAILABLE
        await server.start()

        async def answers() -> bool:
            try:
                return await database.fetch_one("SELECT 1 AS one") == {"one": 1}
            except Unavailable:
                return False

        await eventually(answers)
    finally:
        await database.close()
        await server.stop()


async def test_a_database_that_hangs_is_said_in_time_and_its_connections_are_used_no_more(
    tmp_path: Path,
) -> None:
    server = EmbeddedPostgres(DataFolder(tmp_path / "home").prepare())
    database = Database(await server.start(), max_size=2, answer_seconds=0.5)
    try:
        await database.open()
        before = await backends(database)
        processes = frozen(tmp_path / "home")
        try:
            with anyio.fail_after(30), pytest.raises(Unavailable, match="no answer within") as caught:
                await database.fetch_one("SELECT 1 AS one")
            assert caught.value.code is Code.RECORD_UNAVAILABLE
            # One whose caller gives up waits for no answer to its cancelling either.
            with anyio.fail_after(30), anyio.move_on_after(0.1) as patience:
                await database.fetch_one("SELECT 1 AS one")
            assert patience.cancelled_caught
        finally:
            for process in processes:
                process.resume()

        async def answers() -> bool:
            try:
                return not before & await backends(database)
            except Unavailable:
                return False

        await eventually(answers)
    finally:
        await database.close()
        await server.stop()


async def test_a_write_that_says_so_may_take_longer_than_a_read(conninfo: str) -> None:
    database = Database(conninfo, answer_seconds=0.2)
    await database.open()
    try:
        async with database.transaction(answer_seconds=30) as connection:
            await connection.execute("SELECT pg_sleep(0.6)")
        with pytest.raises(Unavailable, match="no answer within"):
            await database.fetch_one("SELECT pg_sleep(30)")
        assert await database.fetch_one("SELECT 1 AS one") == {"one": 1}
    finally:
        await database.close()


@pytest.mark.parametrize(
    ("statement", "kind", "said"),
    [
        ("SELECT nothing_here", Invariant, "42703"),
        ("SELECT 1 / 0", Invariant, "22012"),
        ("SET transaction_read_only = on; CREATE TABLE t (a int)", Unavailable, "takes no writes"),
        ("SET ROLE pg_monitor; CREATE TABLE t (a int)", Unavailable, "42501"),
        ("DO $$ BEGIN RAISE deadlock_detected; END $$", Unavailable, "in each other's way"),
    ],
)
async def test_whatever_the_database_says_becomes_an_error_of_ours_without_its_words(
    conninfo: str, statement: str, kind: type[ApexError], said: str
) -> None:
    database = Database(conninfo)
    await database.open()
    try:
        with pytest.raises(kind, match=said) as caught:
            await database.fetch_one(statement)
        assert "nothing_here" not in str(caught.value)
    finally:
        await database.close()


async def backends(database: Database) -> set[int]:
    """The server's processes of both connections of the pool."""
    async with database.connection() as one, database.connection() as other:
        return {one.info.backend_pid, other.info.backend_pid}


def frozen(home: Path) -> list[psutil.Process]:
    """PostgreSQL and all its processes, suspended."""
    main = psutil.Process(int((home / "postgres" / "postmaster.pid").read_text().split()[0]))
    processes = [main, *main.children(recursive=True)]
    for process in processes:
        process.suspend()
    return processes
