"""What a PostgreSQL says to whom it does not let in: settings are wrong, or it is full."""

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.runtime.postgres import ADMIN, ROLE, EmbeddedPostgres
from apex_mcp.stores.record import open_record, schema

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


async def test_a_server_that_is_too_old_is_refused_before_anything_is_made(
    empty_conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "OLDEST_MAJOR", 99)
    with pytest.raises(Rejected, match="99 is the oldest") as refused:
        async with open_record(empty_conninfo):
            pass
    assert refused.value.code == Code.SETTINGS_INVALID
    with psycopg.connect(empty_conninfo) as connection:
        assert connection.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


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


async def test_a_user_that_may_make_no_tables_is_refused_and_the_right_is_named(
    postgres: EmbeddedPostgres, empty_conninfo: str
) -> None:
    as_admin(postgres, empty_conninfo, sql.SQL("ALTER DATABASE {database} OWNER TO {admin}"))
    with pytest.raises(Rejected, match="CREATE on the schema public") as refused:
        async with open_record(empty_conninfo):
            pass
    assert refused.value.code == Code.SETTINGS_INVALID
    assert "GRANT CREATE ON SCHEMA" in refused.value.next_step


async def test_tables_that_may_not_be_written_are_refused_and_the_rights_are_named(
    postgres: EmbeddedPostgres, conninfo: str
) -> None:
    as_admin(
        postgres,
        conninfo,
        sql.SQL("REASSIGN OWNED BY {role} TO {admin}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"),
    )
    with pytest.raises(Rejected, match="lacks DELETE, INSERT, UPDATE") as refused:
        async with open_record(conninfo):
            pass
    assert refused.value.code == Code.SETTINGS_INVALID


async def test_a_database_that_takes_no_writes_is_refused(conninfo: str) -> None:
    with pytest.raises(Rejected, match="takes no writes") as refused:
        async with open_record(make_conninfo(conninfo, options="-c default_transaction_read_only=on")):
            pass
    assert refused.value.code == Code.SETTINGS_INVALID


def as_admin(postgres: EmbeddedPostgres, conninfo: str, query: sql.SQL) -> None:
    name = str(conninfo_to_dict(conninfo)["dbname"])
    with psycopg.connect(postgres.conninfo(database=name, role=ADMIN), autocommit=True) as admin:
        admin.execute(
            query.format(
                database=sql.Identifier(name), role=sql.Identifier(ROLE), admin=sql.Identifier(ADMIN)
            )
        )
