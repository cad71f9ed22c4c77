from datetime import UTC, datetime

import pytest

from apex_mcp.ingestion.extraction.dates import find_dates
from tests.ingestion.extraction.documents import names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("on March 15, 2024 we met", "2024-03-15"),
        ("on 15 March 2024 we met", "2024-03-15"),
        ("the 5th of May, 1807", "1807-05-05"),
        ("Dec 31, 2021", "2021-12-31"),
        ("Dec. 20, 2018", "2018-12-20"),
        ("DECEMBER 31, 2021", "2021-12-31"),
        ("delivered on January 23, \n2023.", "2023-01-23"),
        ("2024-03-15T10:00:00Z", "2024-03-15"),
        ("due 2024/03/15", "2024-03-15"),
        ("am 05.11.2024 fällig", "2024-11-05"),
        ("am 23. September 2023", "2023-09-23"),
        ("el 3 de julio de 2023", "2023-07-03"),
        ("le 14 février 2022", "2022-02-14"),
        ("2024년 3월 15일부터", "2024-03-15"),
        ("2024年3月15日", "2024-03-15"),
        ("on 21/10/2024", "2024-10-21"),
        ("on 10/21/2024", "2024-10-21"),
        ("in July, 1805, and", "1805-07"),
        ("since September of 2013", "2013-09"),
        ("in Q4 2024", "2024-Q4"),
        ("in the third quarter of 2021", "2021-Q3"),
        ("for fiscal year 2023", "FY2023"),
        ("guidance for FY2025", "FY2025"),
    ],
)
def test_a_date_gets_the_name_that_all_its_spellings_share(text: str, name: str) -> None:
    assert names(text, "Date") == [name]


@pytest.mark.parametrize(
    "text",
    [
        "in 2024 alone",
        "2,024 items",
        "section 3.2.2024a-7 of part 12.1999.4",
        "on March 15 we met",
        "31 February 2024",
        "on 2024-13-40",
        "03/04/2024",
        "version v1.2.2024",
        "call 555-1234-2024",
        "may 2024 be good to you",
        "12:30:2024",
    ],
)
def test_what_is_no_certain_date_gives_none(text: str) -> None:
    assert names(text, "Date") == []


def test_the_order_of_day_and_month_is_taken_from_the_other_dates_of_the_document() -> None:
    assert names("paid on 03/04/2024, due on 25/04/2024", "Date") == ["2024-04-03", "2024-04-25"]
    assert names("paid on 03/04/2024, due on 04/25/2024", "Date") == ["2024-03-04", "2024-04-25"]
    assert names("03/04/2024, 25/04/2024 and 04/25/2024", "Date") == ["2024-04-25"]


def test_a_quarter_spans_its_three_months() -> None:
    (quarter,) = find_dates("Q4 2024")
    assert (quarter.since, quarter.until) == (
        datetime(2024, 10, 1, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC),
    )
