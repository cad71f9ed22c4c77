"""What every cache, lock and rate limit must do: those of one process, and those in Redis."""

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import anyio
import pytest
from pydantic import SecretStr

from apex_mcp.settings import Settings
from apex_mcp.stores.cache.opening import Shared, open_shared
from apex_mcp.stores.health import Health
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

LONG = 600.0


class Opening:
    """Opens what is tested; in Redis, several of one memory share what they hold."""

    def __init__(self, stack: AsyncExitStack, redis_url: str | None) -> None:
        self._stack = stack
        self._settings = Settings(redis_url=SecretStr(redis_url) if redis_url else None)
        self.in_redis = redis_url is not None

    async def open(self, record_id: UUID | None = None) -> Shared:
        return await self._stack.enter_async_context(
            open_shared(self._settings, record_id=record_id or uuid4(), health=Health(), alone=False)
        )


@pytest.fixture(params=["process", "redis"])
async def opening(request: pytest.FixtureRequest) -> AsyncGenerator[Opening]:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    async with AsyncExitStack() as stack:
        yield Opening(stack, url)


@pytest.fixture
async def shared(opening: Opening) -> Shared:
    return await opening.open()


async def test_what_is_deleted_is_there_no_longer_and_the_rest_is(opening: Opening) -> None:
    cache = (await opening.open()).cache
    other = (await opening.open()).cache
    keys = [f"answer:{one}:{number}" for one in ("a", "ab", "b") for number in range(600)]
    for some in (cache, other):
        await some.set_many(dict.fromkeys([*keys, "single"], b"value"), ttl_seconds=LONG)
    await cache.delete_many(["single", "missing"])
    await cache.delete_many([])
    await cache.delete_beginning("answer:a:")
    await cache.delete_beginning("nothing")
    found = dict(zip(keys, await cache.get_many(keys), strict=True))
    assert {key for key, value in found.items() if value is None} == set(keys[:600])
    assert await cache.get_many(["single"]) == [None]
    assert None not in await other.get_many([*keys, "single"])


async def test_values_come_back_in_the_order_of_their_keys(shared: Shared) -> None:
    await shared.cache.set_many({"a": b"1", "b": b"\x00\xff", "empty": b""}, ttl_seconds=LONG)
    assert await shared.cache.get_many(["b", "none", "empty", "a", "b"]) == [
        b"\x00\xff",
        None,
        b"",
        b"1",
        b"\x00\xff",
    ]


async def test_nothing_asked_and_nothing_kept_is_no_error(shared: Shared) -> None:
    await shared.cache.set_many({}, ttl_seconds=LONG)
    assert await shared.cache.get_many([]) == []


async def test_many_values_at_once(shared: Shared) -> None:
    values = {f"key:{number}": b"%d" % number for number in range(1000)}
    await shared.cache.set_many(values, ttl_seconds=LONG)
    assert await shared.cache.get_many(list(values)) == list(values.values())


async def test_a_value_is_replaced(shared: Shared) -> None:
    await shared.cache.set_many({"a": b"1"}, ttl_seconds=LONG)
    await shared.cache.set_many({"a": b"2"}, ttl_seconds=LONG)
    assert await shared.cache.get_many(["a"]) == [b"2"]


async def test_a_value_goes_when_its_time_is_over(shared: Shared) -> None:
    await shared.cache.set_many({"short": b"1"}, ttl_seconds=0.05)
    await shared.cache.set_many({"long": b"2"}, ttl_seconds=LONG)

    async def over() -> bool:
        return await shared.cache.get_many(["short", "long"]) == [None, b"2"]

    await eventually(over)


async def test_two_memories_know_nothing_of_each_other(opening: Opening) -> None:
    one, other = await opening.open(), await opening.open()
    await one.cache.set_many({"a": b"1"}, ttl_seconds=LONG)
    assert await other.cache.get_many(["a"]) == [None]
    async with one.lock.hold("work", seconds=LONG) as mine, other.lock.hold("work", seconds=LONG) as its:
        assert (mine, its) == (True, True)


async def test_a_name_is_held_by_one_at_a_time_and_free_afterwards(shared: Shared) -> None:
    async with shared.lock.hold("work", seconds=LONG) as first:
        assert first
        async with (
            shared.lock.hold("work", seconds=LONG) as second,
            shared.lock.hold("other", seconds=LONG) as other,
        ):
            assert (second, other) == (False, True)
        async with shared.lock.hold("work", seconds=LONG) as third:
            assert not third, "whoever did not get it did not free it"
    async with shared.lock.hold("work", seconds=LONG) as fourth:
        assert fourth


async def test_a_failure_frees_the_name(shared: Shared) -> None:
    with pytest.raises(ValueError, match="on purpose"):
        async with shared.lock.hold("work", seconds=LONG):
            raise ValueError("on purpose")
    async with shared.lock.hold("work", seconds=LONG) as held:
        assert held


async def test_a_name_is_free_after_its_time_and_its_late_holder_takes_it_from_nobody(shared: Shared) -> None:
    async def free() -> bool:
        async with shared.lock.hold("work", seconds=0.01) as held:
            return held

    async with shared.lock.hold("work", seconds=0.05):
        await eventually(free)
        late = shared.lock.hold("work", seconds=LONG)
        assert await eventually(late.__aenter__)
    async with shared.lock.hold("work", seconds=LONG) as third:
        assert not third
    await late.__aexit__(None, None, None)


async def test_no_limit_waits_for_nothing(shared: Shared) -> None:
    for _ in range(200):
        await shared.rate_limit.wait_turn("model", per_minute=0)


async def test_after_one_seconds_worth_calls_keep_their_distance(shared: Shared) -> None:
    began = time.monotonic()
    for _ in range(30):
        await shared.rate_limit.wait_turn("model", per_minute=1200)
    # Twenty at once, then one each 50 ms: sooner would break the limit, later would be a slow machine.
    assert time.monotonic() - began >= 0.45


async def test_limits_of_two_names_are_apart(shared: Shared) -> None:
    with anyio.fail_after(20):
        await shared.rate_limit.wait_turn("one", per_minute=1)
        await shared.rate_limit.wait_turn("two", per_minute=1)


async def test_who_gives_up_waiting_takes_no_turn_from_others(shared: Shared) -> None:
    for _ in range(20):
        await shared.rate_limit.wait_turn("model", per_minute=1200)
    for _ in range(50):
        with anyio.move_on_after(0):
            await shared.rate_limit.wait_turn("model", per_minute=1200)
    with anyio.fail_after(20):
        await shared.rate_limit.wait_turn("model", per_minute=1200)


async def test_processes_keep_one_limit_together(redis_url: str) -> None:
    record_id = uuid4()
    async with AsyncExitStack() as stack:
        opening = Opening(stack, redis_url)
        limits = [(await opening.open(record_id)).rate_limit for _ in range(3)]
        began = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(lambda n=number: limits[n % 3].wait_turn("model", per_minute=1200))
        assert time.monotonic() - began >= 0.45


async def test_processes_of_one_memory_share_cache_and_locks(redis_url: str) -> None:
    record_id = uuid4()
    async with AsyncExitStack() as stack:
        opening = Opening(stack, redis_url)
        one, other = await opening.open(record_id), await opening.open(record_id)
        await one.cache.set_many({"a": b"1"}, ttl_seconds=LONG)
        assert await other.cache.get_many(["a"]) == [b"1"]
        async with one.lock.hold("work", seconds=LONG), other.lock.hold("work", seconds=LONG) as second:
            assert not second
        await other.cache.set_many({"a": b"2"}, ttl_seconds=LONG)
        assert await one.cache.get_many(["a"]) == [b"2"]
