"""What a PostgreSQL says to whom it does not let in: settings are wrong, or it is full."""

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.runtime.postgres import ADMIN, EmbeddedPostgres
from apex_mcp.stores.record import open_record

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"password": "WRONG-SECRET"}, "user and password"),
        ({"password": ""}, "asks for a password"),
        ({"user": "nobody-here"}, "user and password"),
        ({"dbname": "nothing-here"}, "no such database"),
    ],
)
async def test_a_database_that_does_not_let_us_in_is_a_wrong_setting(
    conninfo: str, wrong: dict[str, str], said: str
) -> None:
    with pytest.raises(Rejected, match=said) as refused:
        async with open_record(make_conninfo(conninfo, **wrong)):
            pass
    assert refused.value.code == Code.SETTINGS_INVALID
    assert "APEX_DATABASE_URL" in refused.value.next_step
    assert not any(value in str(refused.value) for value in wrong.values() if value)


async def test_a_database_that_takes_no_more_connections_says_so_and_is_tried_again(
    postgres: EmbeddedPostgres, conninfo: str
) -> None:
    name = str(conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(postgres.conninfo(database="postgres", role=ADMIN), autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(sql.Identifier(name)))
    with pytest.raises(Unavailable, match="no more connections") as refused:
        async with open_record(conninfo):
            pass
    assert "max_connections" in refused.value.next_step
