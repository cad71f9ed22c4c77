"""Which memory the command line speaks with, where somebody may think of another."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"DATABASE_URL": "postgresql://x/y", "QDRANT_URL": "http://q"}, True),
        ({"DATABASE_URL": "postgresql://x/y"}, False),
        (
            {
                "DATABASE_URL": "postgresql://x/y",
                "QDRANT_URL": "http://q",
                "APEX_DATABASE_URL": "postgresql://x/y",
            },
            False,
        ),
    ],
)
def test_who_names_servers_for_the_server_profile_only_is_told_which_memory_this_is(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], *, told: bool
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    result = run("ls", "--json")
    assert result.exit_code == 0
    assert (f"this is the embedded memory in {home}" in result.stderr.replace("\n", " ")) == told
    json.loads(result.stdout)
