"""What is said where a part is a server of the user's, and so the user's to look after."""

from apex_mcp.errors import Code, Conflict


def own_server(done: str) -> Conflict:
    """The error of a command that is for the bundled PostgreSQL.

    Args:
        done: what was to be done with it ("backed up").
    """
    return Conflict(
        f"PostgreSQL is a server of yours (APEX_DATABASE_URL), and is {done} with its own programs",
        code=Code.NOT_RETRYABLE,
        unchanged="nothing was done",
        next_step="`pg_dump --format=custom --file=apex.dump DATABASE_URL` backs it up, and "
        "`pg_restore --no-owner --dbname=DATABASE_URL apex.dump` restores it into an empty database (docs/deployment.md); "
        "`apex-mcp export` works with any",
    )
