import asyncio
from contextlib import suppress

import pytest

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.stores.breaker import ANSWERED, CircuitBreaker
from apex_mcp.stores.health import Condition, Health

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Store:
    """A store behind a breaker, as good as the test wants it."""

    def __init__(self) -> None:
        self.clock, self.health = Clock(), Health()
        self.breaker = CircuitBreaker(
            "graph", Code.GRAPH_UNAVAILABLE, self.health, failures=3, rest_seconds=5, clock=self.clock
        )
        self.down = False
        self.asked = 0

    def ask(self) -> str:
        with self.breaker.guard():
            self.asked += 1
            if self.down:
                raise Unavailable("the graph does not answer", code=Code.GRAPH_UNAVAILABLE)
            return "answer"

    def asks(self) -> bool:
        """Whether the next call gets through."""
        before = self.asked
        with suppress(Unavailable):
            self.ask()
        return self.asked > before

    def fail(self, times: int) -> None:
        self.down = True
        for _ in range(times):
            with pytest.raises(Unavailable):
                self.ask()


@pytest.fixture
def store() -> Store:
    return Store()


def test_failures_with_an_answer_in_between_leave_it_closed(store: Store) -> None:
    store.fail(2)
    store.down = False
    assert store.ask() == "answer"
    assert store.health.of("graph") == Condition("ok")
    store.fail(2)
    assert store.health.of("graph") == Condition("degraded", "the graph does not answer")
    assert store.asks()


def test_failures_in_a_row_open_it_and_it_refuses_without_asking(store: Store) -> None:
    store.fail(3)
    assert not store.asks()
    assert store.health.of("graph") == Condition("down", "the graph does not answer")
    store.clock.now += 3
    with pytest.raises(Unavailable) as caught:
        store.ask()
    assert store.asked == 3
    assert caught.value.code is Code.GRAPH_UNAVAILABLE
    assert caught.value.retry_after_seconds == 2


def test_after_its_rest_one_answer_closes_it(store: Store) -> None:
    store.fail(3)
    store.down = False
    store.clock.now += 5
    assert store.ask() == "answer"
    assert store.asks()
    assert store.health.of("graph") == Condition("ok")
    store.fail(2)
    assert store.asks()


def test_after_its_rest_one_failure_opens_it_again(store: Store) -> None:
    store.fail(3)
    store.clock.now += 5
    store.fail(1)
    assert store.asked == 4
    assert not store.asks()


def test_only_one_call_probes_at_a_time(store: Store) -> None:
    store.fail(3)
    store.clock.now += 5
    with store.breaker.guard(), pytest.raises(Unavailable):
        store.ask()
    assert store.asked == 3
    assert store.asks()


def test_a_refusal_is_an_answer(store: Store) -> None:
    store.fail(2)
    with pytest.raises(Rejected), store.breaker.guard():
        raise Rejected("the graph's password is wrong", code=Code.SETTINGS_INVALID)
    store.fail(2)
    assert store.asks()


def test_an_answer_that_is_not_what_was_wanted_is_an_answer(store: Store) -> None:
    store.fail(2)
    with pytest.raises(Unavailable), store.breaker.guard():
        raise Unavailable("the graph was emptied", code=Code.GRAPH_UNAVAILABLE, details={ANSWERED: True})
    store.fail(2)
    assert store.asks()


async def test_calls_that_are_given_up_late_count_and_early_ones_do_not(store: Store) -> None:
    async def give_up(after_seconds: float) -> None:
        with store.breaker.guard():
            store.clock.now += after_seconds
            raise asyncio.CancelledError

    for _ in range(5):
        with pytest.raises(asyncio.CancelledError):
            await give_up(0.5)
    assert store.asks()
    for _ in range(3):
        with pytest.raises(asyncio.CancelledError):
            await give_up(3)
    assert not store.asks()
    with pytest.raises(Unavailable) as caught:
        store.ask()
    assert caught.value.code is Code.GRAPH_UNAVAILABLE
    assert caught.value.message == "the server for graph does not answer in time"
    assert store.asked == 1


async def test_a_probe_that_is_given_up_early_leaves_the_next_one_to_probe(store: Store) -> None:
    store.fail(3)
    store.clock.now += 5
    with pytest.raises(asyncio.CancelledError), store.breaker.guard():
        raise asyncio.CancelledError
    store.down = False
    assert store.ask() == "answer"
    assert store.asks()
