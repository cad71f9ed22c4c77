"""docs/archive.md names every member and every field that an archive has."""

import re

import pytest

from apex_mcp.archiving.lines import LINES, VERSION
from tests.docs.pages import read

PAGE = read("docs/archive.md").text


def fields_of(member: str) -> list[str]:
    """Names in the first column of a member's table."""
    found = re.search(rf"^### `{re.escape(member)}`\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, member
    rows = re.findall(r"^\| (`[^|]+`) \|", found[1], re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


@pytest.mark.parametrize("member", LINES)
def test_every_field_of_a_member_is_described_and_no_other(member: str) -> None:
    assert sorted(fields_of(member)) == sorted(LINES[member].model_fields)


def test_the_page_is_of_the_format_that_is_written() -> None:
    assert f"Format **{VERSION}**." in PAGE
    members = re.findall(r"^### `([\w.]+)`", PAGE, re.MULTILINE)
    assert members == ["manifest.json", *LINES]
