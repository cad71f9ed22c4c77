"""Whether the user of the database may do what is needed: better said at the start than met one by one."""

from typing import LiteralString

import psycopg

from apex_mcp.errors import Code, Rejected

# A few of ours stand for all: rights are given to tables together.
_RIGHTS: LiteralString = """
SELECT current_user, current_schema() AS schema, current_setting('transaction_read_only') = 'on' AS read_only,
       has_schema_privilege(current_schema(), 'CREATE') AS may_create,
       ARRAY(SELECT DISTINCT r.name FROM unnest(ARRAY['alembic_version', 'identity', 'versions', 'ingestions']) AS t(name)
             CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r(name)
             WHERE NOT has_table_privilege(to_regclass(t.name), r.name) ORDER BY r.name) AS lacking
"""


async def require_rights(connection: psycopg.AsyncConnection, *, to_migrate: bool) -> None:
    """See that the user may use the tables, and make them where that is left to do.

    Raises:
        Rejected: a right lacks, which it names (`settings_invalid`).
    """
    row = await (await connection.execute(_RIGHTS)).fetchone()
    assert row is not None
    user, schema, read_only, may_create, lacking = row
    if read_only:
        raise refused(
            "the database takes no writes: it is a replica, or is set to be read-only",
            "name the primary server in APEX_DATABASE_URL (DATABASE_URL), and see that default_transaction_read_only is off",
        )
    if to_migrate and schema is None:
        raise refused(
            "the database has no schema to make the tables in that its user may use",
            f'as an administrator: CREATE SCHEMA apex AUTHORIZATION "{user}"; ALTER ROLE "{user}" SET search_path = apex',
        )
    if to_migrate and not may_create:
        raise refused_making(schema, user)
    if lacking:
        raise refused(
            f"the database's user lacks {', '.join(lacking)} on the tables of apex-mcp",
            f'as an administrator: GRANT ALL ON ALL TABLES IN SCHEMA "{schema}" TO "{user}"; or let that user own them',
        )


def refused_making(schema: str = "public", user: str = "...") -> Rejected:
    """The user may not make or change tables."""
    return refused(
        f"the database's user may not make tables, or change those that are there: it lacks CREATE on the schema {schema}, "
        "or does not own them",
        f'as an administrator: GRANT CREATE ON SCHEMA "{schema}" TO "{user}", and let that user own the tables of apex-mcp; '
        "or give it a database of its own: CREATE DATABASE ... OWNER",
    )


def refused(what: str, next_step: str) -> Rejected:
    """The database that is set cannot be used as it is."""
    return Rejected(
        what,
        code=Code.SETTINGS_INVALID,
        unchanged="nothing was started, and the database was not touched",
        next_step=next_step,
        details={"settings": ["database_url"]},
    )
