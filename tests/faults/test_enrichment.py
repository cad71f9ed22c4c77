"""A crash and a failure at every point of the second commit: what a model adds comes as a whole, and once."""

from collections.abc import AsyncGenerator, Generator

import pytest

from tests.doubles.openai_server import OpenAIServer
from tests.e2e.enriching import asking
from tests.faults.conftest import Servers
from tests.faults.living import Living
from tests.faults.numbers import next_number
from tests.faults.stories import Stories, tolerating_death
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.xdist_group("faults")]

POINTS = [
    f"{work}.{where}"
    for work in ("step.extract_by_model", "step.publish_enrichment", "record.second_commit")
    for where in ("before", "after")
]


@pytest.fixture(scope="module")
def model() -> Generator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
async def stories(servers: Servers, model: OpenAIServer) -> AsyncGenerator[Stories]:
    living = Living(servers.place("enrichment", **asking(model)))
    yield Stories(living)
    living.kill()


@pytest.mark.parametrize("action", ["kill", "fail"])
@pytest.mark.parametrize("point", POINTS)
async def test_what_a_model_adds_is_published_once(stories: Stories, point: str, action: str) -> None:
    number = next_number()
    name = f"Harbour{chr(ord('A') + number % 26)}{chr(ord('a') + number // 26)}"
    await stories.living.start()
    stories.place.clear()
    await tolerating_death(
        stories.statement(
            number,
            f"Jane Doe works at {name}. {name} is headquartered in Austin.",
            lambda: stories.place.ask(point, action),
        )
    )
    if action == "kill":
        await stories.living.died()
        await stories.living.start()
    await eventually(lambda: stories.enriched(number))
    assert stories.place.met(point, action)
    (entity,) = [one for one in await stories.entities(name) if one["name"] == name]
    assert sorted(fact["predicate"] for fact in entity["facts"]) == ["headquartered_in", "works_at"]
    await stories.all_is_well()
