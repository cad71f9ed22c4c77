"""Pages of answers: how many at once, and where the next one begins."""

import base64

from apex_mcp.errors import InputError

_MAX_LIMIT = 100
_BEYOND_ALL = 2**63  # PostgreSQL's numbers end there


def checked_limit(limit: int) -> int:
    """The limit, if it is one.

    Raises:
        InputError: it is not.
    """
    if not 1 <= limit <= _MAX_LIMIT:
        raise InputError(
            f"`limit` is 1 to {_MAX_LIMIT}",
            next_step="ask for fewer, and go on with the cursor or a narrower question",
        )
    return limit


def to_cursor(seq: int) -> str:
    """What a caller gives back to go on after the row of this number."""
    return base64.urlsafe_b64encode(str(seq).encode()).decode()


def from_cursor(cursor: str | None) -> int | None:
    """The number that a cursor stands for; None for the beginning.

    Raises:
        InputError: no answer gave it.
    """
    if not cursor:
        return None
    try:
        number = int(base64.urlsafe_b64decode(cursor.encode()).decode())
        if to_cursor(number) != cursor or not 0 < number < _BEYOND_ALL:
            raise ValueError
        return number
    except ValueError:
        raise InputError(
            "the cursor is not one that an answer gave", next_step="start again without a cursor"
        ) from None
