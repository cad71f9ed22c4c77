"""How to connect to a PostgreSQL of the user's."""

import re

from psycopg import Error, OperationalError, ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from apex_mcp.errors import Code, Rejected

# A server that vanished without a word is noticed within half a minute.
_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # What was sent and is not acknowledged (Linux only; ignored elsewhere).
    "tcp_user_timeout": 20_000,
}

# By SQLSTATE, where the driver passes one on.
_REFUSED_STATES = {
    "28P01": "PostgreSQL does not take the user and password",
    "28000": "PostgreSQL does not let this user in",
    "3D000": "PostgreSQL has no such database",
}
_CROWDED_STATES = ("53300", "53400")

# How a server says what no waiting mends. libpq passes on no SQLSTATE of a connection that failed; of a server that speaks
# another language than English, such a refusal is taken for one that does not answer.
_REFUSALS = (
    ("password authentication failed", "PostgreSQL does not take the user and password"),
    ("no pg_hba.conf entry", "PostgreSQL lets this user or machine not in (pg_hba.conf)"),
    ("authentication failed for user", "PostgreSQL does not let this user in"),
)
_MISSING = re.compile(r'(database|role) "[^\n]*" does not exist')
_CROWDED = ("too many clients already", "remaining connection slots are reserved", "too many connections for")


def refusal(error: OperationalError) -> Rejected | None:
    """What a connection's failure means where only other settings help; never with what the server quoted."""
    text = str(error)
    what = _REFUSED_STATES.get(error.sqlstate or "")
    if error.pgconn is not None and error.pgconn.needs_password:
        what = "PostgreSQL asks for a password, and none is given"
    what = what or next((meaning for said, meaning in _REFUSALS if said in text), None)
    if what is None and (missing := _MISSING.search(text)):
        what = f"PostgreSQL has no such {missing[1]}"
    if what is None:
        return None
    return Rejected(
        what,
        code=Code.SETTINGS_INVALID,
        next_step="correct APEX_DATABASE_URL (DATABASE_URL), or make what it names on the server",
        details={"settings": ["database_url"]},
    )


def crowded(error: Error) -> bool:
    """Whether the server has no connection left for us."""
    if error.sqlstate is not None:
        return error.sqlstate in _CROWDED_STATES
    text = str(error)
    return any(said in text for said in _CROWDED)


def users_conninfo(url: str) -> str:
    """What to connect with; what the address itself says of time limits stands.

    Raises:
        Rejected: it is no address of PostgreSQL (`settings_invalid`).
    """
    try:
        given = conninfo_to_dict(url) if url.strip() else None
    except ProgrammingError:
        # No cause of what is raised: it quotes the address, password included.
        given = None
    if given is None:
        raise Rejected(
            "APEX_DATABASE_URL (DATABASE_URL) is not an address of PostgreSQL",
            code=Code.SETTINGS_INVALID,
            unchanged="nothing was started",
            next_step="write it as postgresql://user:password@host:5432/database",
        )
    return make_conninfo(url, **{name: value for name, value in _PATIENCE.items() if name not in given})


def shown(conninfo: str) -> str:
    """Host and port, for people; never the user or the password."""
    parts = conninfo_to_dict(conninfo)
    return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}"
