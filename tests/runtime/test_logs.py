import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from apex_mcp.errors import InputError
from apex_mcp.ingestion.accepting import check_namespace
from apex_mcp.logs import log_to


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log_to(tmp_path / "daemon.log")
    yield tmp_path / "daemon.log"
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_other_packages_speak_from_warnings_on_and_the_pool_from_errors_on(log: Path) -> None:
    logging.getLogger("psycopg.pool").warning("discarding closed connection")
    logging.getLogger("psycopg.pool").error("no connection to be had")
    logging.getLogger("psycopg").info("chatter")
    logging.getLogger("psycopg").warning("a warning about %s", "what the user stored")
    lines = log.read_text("utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "ERROR psycopg.pool no connection to be had",
        "WARNING psycopg a warning about %s",
    ]


def test_of_an_exception_its_type_and_place_are_logged_and_no_word(log: Path) -> None:
    try:
        int("a secret")
    except ValueError:
        logging.getLogger("apex_mcp").warning("it failed", exc_info=True)
    try:
        check_namespace("a secret/namespace")
    except InputError:
        logging.getLogger("apex_mcp").warning("it failed", exc_info=True)
    alien, ours = log.read_text("utf-8").splitlines()
    assert alien.endswith("it failed [ValueError]")
    assert re.search(r"it failed \[InputError at apex_mcp[.\w]*:\d+\]$", ours)
    assert "secret" not in alien + ours
