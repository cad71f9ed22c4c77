"""A data folder of another PostgreSQL is refused, and carried over by the commands that the refusal prints."""

import subprocess
import sys

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres_programs import find_programs
from tests.e2e.homes import Home


def transfer(home: Home, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "apex_mcp.runtime.transfer", *arguments]
    return subprocess.run(
        command, env=home.environment, cwd=home.root, capture_output=True, encoding="utf-8", check=False
    )


def test_what_was_refused_is_carried_over_though_the_daemon_that_refused_still_runs(home: Home) -> None:
    assert home.run("add", "Lovage is a herb.").returncode == 0
    assert home.run("stop").returncode == 0
    made_by = DataFolder(home.path).postgres / "PG_VERSION"
    major = made_by.read_text("ascii")
    made_by.write_text("17\n", "ascii")
    refused = home.run("search", "lovage")
    assert refused.returncode != 0
    assert "apex_mcp.runtime.transfer load" in refused.stderr.replace("\n", " ")
    daemon = home.daemon()
    made_by.write_text(major, "ascii")

    programs = find_programs(None, None).folder
    saved = transfer(home, "save", str(home.path), str(programs), "memory.sql")
    assert (saved.returncode, saved.stderr.startswith("the data was saved to ")) == (0, True), saved.stderr
    assert daemon not in home.processes()
    loaded = transfer(home, "load", str(home.path), "memory.sql")
    assert (loaded.returncode, loaded.stdout) == (0, ""), loaded.stderr
    assert loaded.stderr.startswith("the data was loaded; ")
    again = transfer(home, "load", str(home.path), "memory.sql")
    assert again.returncode == 1
    assert again.stderr.startswith("file_exists: ")
    assert "lovage" in home.run("search", "lovage").stdout.lower()
