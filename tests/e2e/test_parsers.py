"""A parser that dies takes its own document with it, and one that is slow takes its time; others notice nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.homes import Home, new_home, session
from tests.e2e.sabotage import MARK, PATIENT, sabotage
from tests.ingestion.documents import make_docx

pytestmark = pytest.mark.anyio


@pytest.fixture
def sabotaged_home(tmp_path: Path) -> Iterator[Home]:
    sabotage(tmp_path)
    with new_home(PYTHONPATH=str(tmp_path), APEX_CHILDREN="1") as home:
        yield home


async def test_a_document_whose_parser_aborts_fails_alone(sabotaged_home: Home) -> None:
    home = sabotaged_home
    lethal = [home.file("lethal.md", f"# {MARK}"), home.file("lethal.txt", MARK)]
    good = [home.file(f"{number}.md", f"The herb number {number} is lovage.") for number in range(16)]
    good += [
        home.file(f"{number}.docx", make_docx([("", f"Lovage, number {number}.")])) for number in range(4)
    ]
    views: dict[Path, dict[str, Any]] = {}
    async with session(home) as client:
        await client.call("get_stats")

        async def ingest(path: Path) -> None:
            views[path] = await client.ended("ingest_document", source=str(path))

        async with anyio.create_task_group() as tasks:
            for path in sorted([*good, *lethal]):
                tasks.start_soon(ingest, path)
        assert {views[path]["state"] for path in good} == {"ready"}
        assert [views[path]["state"] for path in lethal] == ["rolled_back", "rolled_back"]
        assert [views[path]["failure"]["code"] for path in lethal] == ["parser_crashed", "parser_crashed"]
        assert len(await client.hits("lovage", limit=50)) == len(good)
    assert home.footprint()["versions"] == len(good)
    assert home.footprint()["outbox"] == 0


async def test_a_small_file_does_not_wait_for_a_large_one(sabotaged_home: Home, tmp_path: Path) -> None:
    home = sabotaged_home
    large = home.file("large.md", f"{PATIENT} " * 20_000)
    async with session(home) as client:
        slow = await client.call("ingest_document", source=str(large), wait_seconds=0)
        with anyio.fail_after(60):
            quick = await client.ended(
                "ingest_document", source=str(home.file("note.md", "The herb is lovage."))
            )
        assert quick["state"] == "ready"
        (meanwhile,) = (await client.call("get_ingestion", ingestion_id=slow["ingestion_id"]))["ingestions"]
        assert not meanwhile["finished"]
        (tmp_path / "go").touch()
        assert (await client.ended("ingest_document", source=str(large)))["state"] in ("ready", "unchanged")
