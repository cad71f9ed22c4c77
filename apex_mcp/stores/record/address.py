"""How to connect to a PostgreSQL of the user's."""

from psycopg import ProgrammingError
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


def users_conninfo(url: str) -> str:
    """What to connect with; what the address itself says of time limits stands.

    Raises:
        Rejected: it is no address of PostgreSQL (`settings_invalid`).
    """
    try:
        given = conninfo_to_dict(url)
        return make_conninfo(url, **{name: value for name, value in _PATIENCE.items() if name not in given})
    except ProgrammingError:
        # Without the cause: it quotes the address, password included.
        raise Rejected(
            "APEX_DATABASE_URL (DATABASE_URL) is not an address of PostgreSQL",
            code=Code.SETTINGS_INVALID,
            unchanged="nothing was started",
            next_step="write it as postgresql://user:password@host:5432/database",
        ) from None


def shown(conninfo: str) -> str:
    """Host and port, for people; never the user or the password."""
    parts = conninfo_to_dict(conninfo)
    return f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}"
