"""A memory taken along by the command line, while it is in use."""

import asyncio
import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.homes import Home, new_home, session
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

NOTES = 60


def answer(home: Home, *command: str) -> dict[str, Any]:
    """What a command says, as JSON."""
    ran = home.run(*command, "--json")
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def found(home: Home, query: str, *more: str) -> list[str]:
    return sorted(hit["text"] for hit in answer(home, "search", query, *more)["hits"])


def named(home: Home, namespace: str) -> list[str]:
    entities = answer(home, "entities", "Acme Corporation", "--namespace", namespace)["entities"]
    return sorted(entity["name"] for entity in entities)


def test_an_archive_goes_from_one_memory_into_another(shared_home: Home) -> None:
    file = shared_home.file("heron.md", "# Birds\n\nThe heron stands in the reeds.\n")
    answer(shared_home, "ingest", str(file), "--namespace", "birds")
    answer(shared_home, "add", "Ann works at Acme Corporation.", "--namespace", "birds")
    archive = shared_home.root / "birds.zip"
    made = answer(shared_home, "export", str(archive), "--namespace", "birds", "--originals")
    assert (made["documents"], made["originals"]) == (2, 1)
    again = shared_home.run("export", str(archive), "--namespace", "birds")
    assert again.returncode == 1
    assert "--force" in again.stderr

    copied = answer(shared_home, "import", str(archive), "--into", "copy")
    assert copied["documents"]["imported"] == 2
    with new_home() as other:
        came = answer(other, "import", str(archive))
        assert came["documents"] == {"imported": 2, "unchanged": 0, "kept": 0, "forgotten": 0}
        assert answer(other, "import", str(archive))["versions"] == 0
        for home, namespace in ((other, "birds"), (shared_home, "copy")):
            assert found(home, "heron reeds", "--namespace", namespace) == found(
                shared_home, "heron reeds", "--namespace", "birds"
            )
            assert named(home, namespace) == named(shared_home, "birds") != []
    archive.write_bytes(archive.read_bytes()[:-9])
    refused = shared_home.run("import", str(archive), "--into", "cut")
    assert (refused.returncode, "archive_invalid" in refused.stderr) == (1, True)


async def test_a_backup_made_amid_ingestions_comes_back_and_they_go_on_to_their_end(home: Home) -> None:
    backup = home.root / "backup.zip"
    async with session(home) as client:

        async def remember(number: int) -> None:
            await client.call(
                "add_memory", text=f"The gannet {number} dives.", key=f"gannet-{number}", wait_seconds=0
            )

        await client.call("get_stats")  # the daemon and its database are there
        async with anyio.create_task_group() as tasks:
            for number in range(NOTES):
                tasks.start_soon(remember, number)
            await eventually(lambda: home.number("SELECT count(*) FROM ingestions") >= NOTES // 3)
            await asyncio.to_thread(answer, home, "backup", str(backup))
    with new_home() as restored:
        done = await asyncio.to_thread(answer, restored, "restore", str(backup))
        assert done["moved_aside"] is None
        assert await asyncio.to_thread(_all_end_well, restored) >= NOTES // 3
        refused = await asyncio.to_thread(restored.run, "restore", str(backup))
        assert (refused.returncode, "--replace" in refused.stderr) == (1, True)
        # Over the one that runs, which is stopped and moved aside.
        done = await asyncio.to_thread(answer, restored, "restore", str(backup), "--replace")
        assert await asyncio.to_thread(Path(done["moved_aside"]).is_dir)
        assert await asyncio.to_thread(_all_end_well, restored) >= NOTES // 3


def _all_end_well(home: Home) -> int:
    """Once nothing is under way any more: number of notes, the last of which is found by its words."""
    total, unfinished = 0, 1
    while unfinished:
        total = answer(home, "ls", "--limit", "1")["total"]  # which starts the daemon
        unfinished = home.number("SELECT count(*) FROM ingestions WHERE state IN ('pending', 'running')")
    states = {row[0] for row in home.rows("SELECT DISTINCT state FROM ingestions")}
    assert states == {"ready"}
    rows = home.rows("SELECT title FROM versions ORDER BY ingestion_seq")
    assert total == len(rows) == home.number("SELECT count(*) FROM ingestions")
    assert rows[-1][0] in found(home, rows[-1][0], "--limit", "50")
    return total
