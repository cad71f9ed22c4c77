"""Whatever is done to a memory, in whatever order: it holds what a small model says, and nothing else."""

import itertools
import os
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apex_mcp.app import App
from tests.e2e.apps import CALLER, app_without_worker, working
from tests.properties.driver import Driver

_COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
# The short one is the same every time; `make properties` runs the other.
PROFILES = {
    "fast": settings(max_examples=6, stateful_step_count=12, derandomize=True, **_COMMON),
    "slow": settings(max_examples=200, stateful_step_count=40, print_blob=True, **_COMMON),
}
PROFILE = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "fast")]

KEYS = st.sampled_from(["a", "b", "c"])
TWINS = "Lovage Inc", "Lovage Corp"
NAMES = st.frozensets(st.sampled_from([*TWINS, "Mira Holm"]), max_size=3)
FACTS = st.frozensets(
    st.sampled_from([
        ("Lovage Inc", "makes", "tonic"),
        ("Lovage Corp", "makes", "tonic"),
        ("Mira Holm", "knows of", "Lovage Corp"),
        ("Teasel", "grows near", "Mira Holm"),
    ]),
    max_size=2,
)
STEPS = st.integers(0, 40)

_numbers = itertools.count()


class World:
    """A memory that outlives the examples, each of which has a namespace of its own."""

    def __init__(self, portal: BlockingPortal, app: App, folder: Path) -> None:
        self.portal = portal
        self.app = app
        self.folder = folder

    def driver(self) -> Driver:
        return Driver(self.app, self.folder, f"example-{next(_numbers)}")


@pytest.fixture(scope="module")
def world() -> Generator[World]:
    with TemporaryDirectory(prefix="apex") as name, start_blocking_portal() as portal:
        folder = Path(name).resolve()
        with (
            portal.wrap_async_context_manager(app_without_worker(folder / "home")) as app,
            portal.wrap_async_context_manager(working(app)),
        ):
            yield World(portal, app, folder)


class Memory(RuleBasedStateMachine):
    """The operations, in any order; after each the memory is compared with its model."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._portal = world.portal
        self._driver = world.driver()

    def _do(self, operation: Callable[..., Awaitable[None]], *given: Any) -> None:
        self._portal.call(operation, *given)
        self._driver.over()

    @rule(key=KEYS, names=NAMES, facts=FACTS)
    def remember(self, key: str, names: frozenset[str], facts: frozenset[Any]) -> None:
        self._do(self._driver.remember, key, names, facts)

    @rule(key=KEYS)
    def remember_again(self, key: str) -> None:
        self._do(self._driver.remember_again, key)

    @rule(key=KEYS, names=NAMES, facts=FACTS)
    def cancel(self, key: str, names: frozenset[str], facts: frozenset[Any]) -> None:
        self._do(self._driver.cancel, key, names, facts)

    @rule(key=KEYS)
    def retry(self, key: str) -> None:
        self._do(self._driver.retry, key)

    @rule(keys=st.frozensets(KEYS, min_size=1, max_size=2))
    def forget_documents(self, keys: frozenset[str]) -> None:
        self._do(self._driver.forget_documents, keys)

    @rule(after=STEPS, length=st.integers(1, 5))
    def forget_time(self, after: int, length: int) -> None:
        self._do(self._driver.forget_time, after, after + length)

    @rule(name=st.sampled_from([*TWINS, "Mira Holm", "Teasel"]))
    def forget_entity(self, name: str) -> None:
        self._do(self._driver.forget_entity, name)

    @rule()
    def forget_namespace(self) -> None:
        self._do(self._driver.forget_namespace)

    @rule()
    def unlink(self) -> None:
        self._do(self._driver.unlink, *TWINS)

    @rule()
    def link(self) -> None:
        self._do(self._driver.link, *TWINS)

    @rule()
    def export(self) -> None:
        self._do(self._driver.export)

    @rule(number=st.integers(0, 3))
    @precondition(lambda self: self._driver.archives)
    def take_back(self, number: int) -> None:
        self._do(self._driver.take_back, number)

    @rule(number=st.integers(0, 3))
    @precondition(lambda self: self._driver.archives)
    def take_elsewhere(self, number: int) -> None:
        self._do(self._driver.take_elsewhere, number)

    @rule()
    def prune(self) -> None:
        self._do(self._driver.prune)

    @rule(reindexed=st.booleans())
    def keep_up(self, reindexed: bool) -> None:
        self._do(self._driver.reindex if reindexed else self._driver.maintain)

    @invariant()
    def it_holds_what_the_model_says(self) -> None:
        self._portal.call(self._driver.as_the_model_says)

    def teardown(self) -> None:
        self._portal.call(self._at_the_end)

    async def _at_the_end(self) -> None:
        for step in range(self._driver.step):
            await self._driver.as_it_was(step)


@pytest.mark.timeout(0 if PROFILE is PROFILES["slow"] else 180)
def test_a_memory_holds_what_its_model_says_whatever_is_done_to_it(world: World) -> None:
    class Example(Memory):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(Example, settings=PROFILE)
    world.portal.call(_verified, world.app)


async def _verified(app: App) -> None:
    """Of all examples together."""
    findings = [found async for found in app.memory.verify(CALLER)]
    assert [found for found in findings if found.differs] == []
