"""What a provider says of when it may be asked again: believed within reason."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from apex_mcp.ingestion.retry_after import retry_after_seconds


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("86400", 3600),
        ("1e12", 3600),
        ("inf", 3600),
        ("Wed, 21 Oct 2955 07:28:00 GMT", 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 -0000", None),
        ("0", None),
        ("-3", None),
        ("nan", None),
        ("soon", None),
        ("", None),
    ],
)
def test_an_hour_is_the_longest_and_nonsense_is_nothing(said: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": said}) == seconds


def test_a_date_is_waited_for() -> None:
    in_ten_minutes = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
    seconds = retry_after_seconds({"retry-after": in_ten_minutes})
    assert seconds is not None
    assert 0 < seconds <= 600


def test_without_the_header_nothing_is_known() -> None:
    assert retry_after_seconds({}) is None
