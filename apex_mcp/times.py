"""Times as people and models write them."""

from datetime import UTC, date, datetime, time

from apex_mcp.errors import InputError


def moment(name: str, value: str, *, end_of_day: bool = False) -> datetime | None:
    """Read an ISO 8601 time or date; without a zone it is UTC.

    Args:
        name: the argument, for the error.
        value: the text; blank is None.
        end_of_day: a date alone means its last moment, so that "as of 1 May" includes what that day brought.

    Raises:
        InputError: it is no ISO 8601 time.
    """
    text = value.strip()
    if not text:
        return None
    try:
        if len(text) == len("2026-03-01"):
            read = datetime.combine(
                date.fromisoformat(text), time.max if end_of_day else time.min, tzinfo=UTC
            )
        else:
            read = datetime.fromisoformat(text)
        return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"{name} is not an ISO 8601 date or time",
            next_step=f"give {name} as 2026-03-01 or 2026-03-01T09:30:00Z",
        ) from None
