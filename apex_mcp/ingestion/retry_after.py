"""When a provider says that it may be asked again."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_LONGEST_SECONDS = 3600.0


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """The answer's `Retry-After`, an hour at most; None where there is none, or it makes no sense."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, OSError):
            return None
    return min(seconds, _LONGEST_SECONDS) if seconds > 0 else None
