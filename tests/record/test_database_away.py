"""A database that goes away is said within seconds, and used again as soon as it is back."""

from pathlib import Path

import anyio
import pytest

from apex_mcp.errors import Code, Unavailable
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
