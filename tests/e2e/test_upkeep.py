"""The operator's commands on a whole memory: maintained through Temporal, verified, spoilt, mended."""

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta

import psutil

from apex_mcp.runtime.home import DataFolder
from tests.e2e.homes import Home, new_home
from tests.waiting import eventually


def test_a_memory_is_maintained_erased_verified_and_mended_by_the_command_line(home: Home) -> None:
    for text in ("Ann works at Acme since 2020.", "Ann works at Initech since 2023."):
        assert home.run("add", text, "--key", "note").returncode == 0
    assert home.run("maintain").stdout == "nothing was to be done\n"
    before = {path.name for path in DataFolder(home.path).vectors.iterdir()}
    assert json.loads(home.run("maintain", "--erase", "--json").stdout)["orphans"] == 0
    assert before.isdisjoint(path.name for path in DataFolder(home.path).vectors.glob("index-*"))
    clean = home.run("verify")
    assert (clean.returncode, clean.stdout.splitlines()[-1]) == (0, "clean: everything is as the record says")

    home.rows("INSERT INTO entities VALUES (gen_random_uuid(), 'default', 'nobody') RETURNING 1")
    home.rows("UPDATE versions SET revision_to = revision_to + 7 WHERE revision_to IS NOT NULL RETURNING 1")
    spoilt = home.run("verify", "--json")
    assert spoilt.returncode == 1
    found = json.loads(spoilt.stdout)
    assert not found["clean"]
    assert {one["what"] for one in found["findings"] if one["left"]} == {
        "entities have a source",
        "versions of a document follow each other",
        "past versions are marked as past, current ones are not",
    }
    mended = home.run("verify", "--repair")
    assert mended.returncode == 0, mended.stdout
    assert home.run("verify").returncode == 0
    assert home.run("search", "Ann").stdout.count("Initech") >= 1


def test_answers_about_a_time_of_which_versions_were_pruned_say_so() -> None:
    with new_home(APEX_KEEP_PAST_DAYS="10") as home:
        for text in (
            "Ann works at Acme since 2020.",
            "Ann works at Initech since 2023.",
            "Ann retired in 2024.",
        ):
            assert home.run("add", text, "--key", "note").returncode == 0
        # 60, 40 and 20 days ago.
        home.rows(
            "UPDATE revisions SET committed_at = now() - (80 - 20 * revision) * interval '1 day' RETURNING 1"
        )
        assert json.loads(home.run("maintain", "--json").stdout)["pruned"] == 2
        then = (datetime.now(UTC) - timedelta(days=50)).isoformat()
        for command in ("search", "entities"):
            asked = json.loads(home.run(command, "Ann", "--known-at", then, "--json").stdout)
            assert "APEX_KEEP_PAST_DAYS" in " ".join(asked["degraded"]), command
            now = json.loads(home.run(command, "Ann", "--json").stdout)
            assert now["degraded"] == [], command
        (hit,) = json.loads(home.run("search", "Ann", "--json").stdout)["hits"]
        shown = home.run("show", hit["source"]["document_id"], "--version", "1")
        assert shown.returncode != 0
        assert "version 1 of the document was pruned" in shown.stderr


def test_stop_ends_what_a_killed_daemon_left_running_and_nothing_stored_is_lost(home: Home) -> None:
    assert home.run("add", "Ann works at Acme.").returncode == 0
    daemon = home.daemon()
    daemon.kill()
    psutil.wait_procs([daemon])
    stopped = home.run("stop")
    assert (stopped.returncode, stopped.stdout) == (
        0,
        "not running; ended what a daemon that was killed had left running: Temporal and PostgreSQL\n",
    )
    # Children that parse end by themselves, when nobody reads what they say.
    _, left = psutil.wait_procs(home.processes(), timeout=10)
    assert left == []
    assert home.run("stop").stdout == "not running\n"
    assert "Acme" in home.run("search", "Ann").stdout


def test_stop_ends_what_a_daemon_that_is_killed_amid_it_leaves_running(home: Home) -> None:
    assert home.run("add", "Ann works at Acme.").returncode == 0
    daemon = home.daemon()
    postgres = psutil.Process(
        json.loads(DataFolder(home.path).child_json("postgres").read_text("utf-8"))["pid"]
    )
    postgres.suspend()
    stopping = subprocess.Popen(
        [home.command, "stop"], env=home.environment, stdout=subprocess.PIPE, encoding="utf-8"
    )
    log = DataFolder(home.path).log("daemon")
    asyncio.run(eventually(lambda: "stopping (" in log.read_text("utf-8")))
    daemon.kill()
    psutil.wait_procs([daemon])
    postgres.resume()
    said, _ = stopping.communicate(timeout=60)
    assert said.startswith("stopped; ended what a daemon that was killed had left running: ")
    assert "PostgreSQL" in said
    _, left = psutil.wait_procs(home.processes(), timeout=10)
    assert left == []
