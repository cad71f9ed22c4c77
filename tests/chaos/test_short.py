"""The chaos run in short: a memory that is whole keeps its promises, and builds that are broken on purpose are found out."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.chaos.breaking import broken
from tests.chaos.embedded import EmbeddedSystem, embedded_system
from tests.chaos.plan import make_plan, make_plan_of_cancels
from tests.chaos.report import printed
from tests.chaos.run import run_chaos
from tests.chaos.servers import ServersSystem, servers_system
from tests.chaos.system import System
from tests.services.neo4j_server import lacking

pytestmark = pytest.mark.faults

SEED = 5


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_and_nothing_half_visible_on_one_machine() -> None:
    _is_clean(EmbeddedSystem, embedded_system, n=60, kills=6)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("neo4j")
@pytest.mark.skipif(bool(lacking()), reason=f"the servers cannot be had here: {lacking()}")
def test_nothing_is_lost_and_nothing_half_visible_on_servers() -> None:
    _is_clean(ServersSystem, servers_system, n=30, kills=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "finding"),
    [
        ("commit", "partially visible"),
        ("compensation", "points and are not in the record"),
        ("outbox", "never ended"),
    ],
)
def test_a_broken_build_is_found_out(how: str, finding: str) -> None:
    if how == "compensation":
        plan = make_plan_of_cancels(seed=SEED, n=40, profile="embedded")
    else:
        plan = make_plan(seed=SEED, n=24, kills=0, profile="embedded", targets=EmbeddedSystem.targets)
    with embedded_system(**broken(how)) as system:
        outcome = asyncio.run(run_chaos(plan, system, settle_seconds=10))
    assert any(finding in words for words in outcome.model.violations), printed(outcome)


def _is_clean(
    kind: type[System], open_system: Callable[[], AbstractContextManager[System]], *, n: int, kills: int
) -> None:
    plan = make_plan(seed=SEED, n=n, kills=kills, profile=kind.profile, targets=kind.targets)
    with open_system() as system:
        outcome = asyncio.run(run_chaos(plan, system, settle_seconds=90))
    assert outcome.clean, printed(outcome)


def test_a_seed_makes_the_same_plan_again() -> None:
    first, again = (
        make_plan(seed=SEED, n=100, kills=10, profile="embedded", targets=EmbeddedSystem.targets)
        for _ in range(2)
    )
    assert first == again
