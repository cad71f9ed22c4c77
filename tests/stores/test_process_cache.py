import pytest

from apex_mcp.stores.cache.process import ProcessCache
from apex_mcp.stores.cache.turns import HORIZON_SECONDS, Pace, Schedule

pytestmark = pytest.mark.anyio

LONG = 600.0


async def test_what_was_not_asked_for_the_longest_time_makes_room() -> None:
    cache = ProcessCache(most_bytes=10_000)
    for name in "abc":
        await cache.set_many({name: bytes(3_000)}, ttl_seconds=LONG)
    await cache.get_many(["a"])
    await cache.set_many({"d": bytes(3_000)}, ttl_seconds=LONG)
    kept = await cache.get_many(list("abcd"))
    assert [value is not None for value in kept] == [True, False, True, True]


async def test_a_value_larger_than_the_cache_is_not_kept_and_leaves_room_for_others() -> None:
    cache = ProcessCache(most_bytes=10_000)
    await cache.set_many({"large": bytes(20_000)}, ttl_seconds=LONG)
    await cache.set_many({"small": b"1"}, ttl_seconds=LONG)
    assert await cache.get_many(["large", "small"]) == [None, b"1"]


async def test_replacing_and_expiring_gives_the_room_back() -> None:
    cache = ProcessCache(most_bytes=10_000)
    for _ in range(20):
        await cache.set_many({"a": bytes(3_000)}, ttl_seconds=LONG)
        await cache.set_many({"b": bytes(3_000)}, ttl_seconds=0)
        assert await cache.get_many(["b"]) == [None]
    await cache.set_many({"c": bytes(3_000)}, ttl_seconds=LONG)
    assert [value is not None for value in await cache.get_many(["a", "b", "c"])] == [True, False, True]


def test_a_schedule_lets_a_seconds_worth_go_at_once_and_then_one_an_interval() -> None:
    now = 50.0
    schedule, pace = Schedule(lambda: now), Pace.of(240)
    waits = [schedule.reserve(pace).wait_seconds for _ in range(7)]
    assert waits == pytest.approx([0, 0, 0, 0, 0.25, 0.5, 0.75])
    now += 10
    assert schedule.reserve(pace).wait_seconds == 0


def test_a_turn_that_is_far_is_not_reserved() -> None:
    schedule, pace = Schedule(lambda: 50.0), Pace.of(1)
    assert schedule.reserve(pace).reserved
    for _ in range(3):
        turn = schedule.reserve(pace)
        assert not turn.reserved
        assert turn.wait_seconds == pytest.approx(60)
        assert turn.wait_seconds > HORIZON_SECONDS
