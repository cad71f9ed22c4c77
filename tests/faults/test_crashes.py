"""A crash and a failure at every point of ingestion and purge, before and after it, each once."""

from collections.abc import AsyncGenerator

import pytest

from tests.chaos.documents import marks
from tests.faults.conftest import Servers
from tests.faults.living import Living
from tests.faults.numbers import next_number
from tests.faults.stories import REPEATED, Stories, Story, tolerating_death

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.xdist_group("faults")]

# For each write and step: the story that comes by.
WAYS: dict[str, Story] = {
    "record.accept": Stories.note,
    "step.prepare_group": Stories.note,
    "step.generate_embeddings": Stories.note,
    "step.write_to_databases": Stories.note,
    "index.upsert": Stories.note,
    "record.commit": Stories.note,
    "index.retire": Stories.update,
    "index.flush": Stories.flushed,
    "step.stage_document": Stories.file,
    "staging.put": Stories.file,
    "step.parse_document": Stories.file,
    "step.extract_entities": Stories.file,
    "step.cleanup_staging": Stories.file,
    "staging.delete": Stories.file,
    "step.rollback_writes": Stories.damaged,
    "record.purge_tombstone": Stories.cancelled,
    "index.delete": Stories.cancelled,
    "record.purge_rows": Stories.cancelled,
    "record.purge_passed": Stories.cancelled,
}
POINTS = [f"{work}.{where}" for work in WAYS for where in ("before", "after")]


@pytest.fixture(scope="module")
async def stories(servers: Servers) -> AsyncGenerator[Stories]:
    living = Living(servers.place("crashes"))
    yield Stories(living)
    living.kill()


@pytest.mark.parametrize("point", [point for point in POINTS if point not in REPEATED])
async def test_a_crash_leaves_all_or_nothing(stories: Stories, point: str) -> None:
    number, story = next_number(), WAYS[point.rpartition(".")[0]]
    await stories.living.start()
    stories.place.clear()
    await tolerating_death(story(stories, number, lambda: stories.place.ask(point, "kill")))
    await stories.living.died()
    assert stories.place.met(point, "kill")
    await stories.living.start()
    if point.startswith("record.accept"):
        # Nobody was told that it was accepted: the client sends it again.
        await story(stories, number, lambda: None)
    await _ended_well(stories, story, number)


@pytest.mark.parametrize("point", POINTS)
async def test_a_failure_delays_and_changes_nothing(stories: Stories, point: str) -> None:
    number, story = next_number(), WAYS[point.rpartition(".")[0]]
    await stories.living.start()
    stories.place.clear()
    await story(stories, number, lambda: stories.place.ask(point, "fail"))
    await _ended_well(stories, story, number)
    assert stories.place.met(point, "fail")


async def _ended_well(stories: Stories, story: Story, number: int) -> None:
    if story is Stories.damaged:
        await stories.all_is_well()
        assert stories.state(number) == ("rolled_back", "malformed")
    elif story is Stories.cancelled:
        await stories.all_is_well()
        assert stories.state(number) == ("cancelled", "")
        assert [await stories.found(mark) for mark in marks(number, 1).all] == [0, 0, 0]
    else:
        version = 2 if story is Stories.update else 1
        await stories.until_searchable(number, version)
        await stories.all_is_well()
        assert await stories.found(marks(number, 1).document) == 1
