"""Redis beside the suite of all caches: losing it in the middle, and news between processes."""

import logging
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import anyio
import psutil
import pytest
from pydantic import SecretStr

from apex_mcp.errors import Code, Rejected
from apex_mcp.settings import Settings
from apex_mcp.stores.cache.opening import Shared, open_shared
from apex_mcp.stores.health import Health
from apex_mcp.stores.progress import LOOK_SECONDS, SHARED_LOOK_SECONDS
from tests.services.redis_server import RedisServer, running_redis
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(
    url: str, *, record_id: UUID | None = None, health: Health | None = None
) -> AsyncGenerator[Shared]:
    async with open_shared(
        Settings(redis_url=SecretStr(url)),
        record_id=record_id or uuid4(),
        health=health or Health(),
        alone=False,
    ) as shared:
        yield shared


async def use(shared: Shared) -> None:
    """Everything that it is good for, once."""
    await shared.cache.set_many({"a": b"1"}, ttl_seconds=60)
    assert await shared.cache.get_many(["a", "b"]) in ([b"1", None], [None, None])
    async with shared.lock.hold("work", seconds=60) as held:
        assert held
    await shared.rate_limit.wait_turn("model", per_minute=6000)
    shared.progress.publish([uuid4()])


async def test_all_goes_on_when_redis_is_killed_and_it_is_used_again_when_it_is_back(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    async with opened(redis_server.url, health=health) as shared:
        await use(shared)
        assert health.of("redis").state == "ok"
        async with shared.lock.hold("across", seconds=60):
            redis_server.kill()
            for _ in range(3):
                await use(shared)
        assert health.of("redis").state == "down"
        assert health.of("redis").detail == "Redis does not answer; everything goes on, without shared caches"
        with caplog.at_level(logging.INFO):
            redis_server.start()

            async def kept() -> bool:
                await shared.cache.set_many({"again": b"2"}, ttl_seconds=60)
                return await shared.cache.get_many(["again"]) == [b"2"]

            await eventually(kept)
        assert health.of("redis").state == "ok"
        assert "redis answers again" in caplog.text


async def test_a_holder_that_stood_still_too_long_has_lost_its_name_and_takes_it_from_nobody(
    redis_server: RedisServer,
) -> None:
    async with opened(redis_server.url) as shared:
        async with shared.lock.hold("work", seconds=0.1):
            time.sleep(0.4)  # noqa: ASYNC251  (as a process that was stopped: it renews nothing)
            late = shared.lock.hold("work", seconds=60)
            assert await late.__aenter__()
        async with shared.lock.hold("work", seconds=60) as third:
            assert not third
        await late.__aexit__(None, None, None)


async def test_a_redis_that_hangs_delays_a_few_calls_only(redis_server: RedisServer) -> None:
    health = Health()
    async with opened(redis_server.url, health=health) as shared:
        await use(shared)
        process = psutil.Process(redis_server.pid)
        process.suspend()
        try:
            with anyio.fail_after(30):
                for number in range(500):
                    assert await shared.cache.get_many([f"key:{number}"]) == [None]
        finally:
            process.resume()
        assert health.of("redis").state == "down"


async def test_a_redis_that_is_not_there_at_the_start_is_used_when_it_comes(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server:
        server.kill()
        health = Health()
        async with opened(server.url, health=health) as shared:
            assert health.of("redis").state == "degraded"
            await use(shared)
            server.start()

            async def kept() -> bool:
                await shared.cache.set_many({"a": b"1"}, ttl_seconds=60)
                return await shared.cache.get_many(["a"]) == [b"1"]

            await eventually(kept)


async def test_a_wrong_password_is_said_and_costs_speed_only(redis_server: RedisServer) -> None:
    health = Health()
    wrong = redis_server.url.replace("rd%3F", "other")
    async with opened(wrong, health=health) as shared:
        await use(shared)
    assert "refuses the user or the password" in health.of("redis").detail
    assert "other" not in health.of("redis").detail


async def test_a_redis_that_does_not_let_us_in_is_said_once_at_the_start(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    health = Health()
    async with opened(redis_server.url.replace("rd%3F", "WRONG"), health=health):
        assert health.of("redis").state == "degraded"
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        f"redis: {health.of('redis').detail}"
    ]
    assert "WRONG" not in caplog.text


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", "redis://host:port"])
async def test_an_address_that_is_none_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(Rejected) as caught:
        async with opened(url):
            pass
    assert caught.value.code is Code.SETTINGS_INVALID
    assert "APEX_REDIS_URL" in caught.value.message
    assert url not in str(caught.value)


async def test_news_reach_a_waiter_of_another_process(redis_url: str) -> None:
    record_id, ingestion_id = uuid4(), uuid4()
    async with (
        opened(redis_url, record_id=record_id) as server,
        opened(redis_url, record_id=record_id) as worker,
    ):
        with server.progress.subscribe(ingestion_id) as news, server.progress.subscribe(uuid4()) as other:
            await eventually(lambda: server.progress.look_seconds == LOOK_SECONDS)
            news.clear()
            other.clear()
            worker.progress.publish([uuid4(), ingestion_id])
            with anyio.fail_after(20):
                await news.wait()
            assert not other.is_set()


async def test_news_of_this_process_come_at_once_and_those_of_another_memory_never(redis_url: str) -> None:
    ingestion_id = uuid4()
    async with opened(redis_url) as one, opened(redis_url) as other:
        with one.progress.subscribe(ingestion_id) as here, other.progress.subscribe(ingestion_id) as there:
            await eventually(lambda: other.progress.look_seconds == LOOK_SECONDS)
            there.clear()
            one.progress.publish([ingestion_id])
            assert here.is_set()
            marker = uuid4()
            with other.progress.subscribe(marker) as after:
                async with opened(redis_url) as third:
                    third.progress.publish([marker])
                assert not after.is_set()
            assert not there.is_set()


async def test_a_waiter_looks_more_often_while_redis_is_away_and_hears_again_when_it_is_back(
    redis_server: RedisServer,
) -> None:
    record_id, ingestion_id = uuid4(), uuid4()
    async with (
        opened(redis_server.url, record_id=record_id) as server,
        opened(redis_server.url, record_id=record_id) as worker,
    ):
        with server.progress.subscribe(ingestion_id) as news:
            await eventually(lambda: server.progress.look_seconds == LOOK_SECONDS)
            redis_server.kill()
            await eventually(lambda: server.progress.look_seconds == SHARED_LOOK_SECONDS)
            news.clear()
            redis_server.start()
            with anyio.fail_after(20):
                await news.wait()  # something may have been missed meanwhile
            await eventually(lambda: server.progress.look_seconds == LOOK_SECONDS)

            async def heard() -> bool:
                news.clear()
                worker.progress.publish([ingestion_id])
                with anyio.move_on_after(1):
                    await news.wait()
                return news.is_set()

            await eventually(heard)


async def test_a_connection_that_hangs_is_noticed_and_whoever_waits_looks_at_once(
    redis_server: RedisServer,
) -> None:
    async with opened(redis_server.url) as shared:
        with shared.progress.subscribe(uuid4()) as news:
            await eventually(lambda: shared.progress.look_seconds == LOOK_SECONDS)
            news.clear()
            process = psutil.Process(redis_server.pid)
            process.suspend()
            try:
                with anyio.fail_after(20):
                    await news.wait()
                assert shared.progress.look_seconds == SHARED_LOOK_SECONDS
            finally:
                process.resume()
            await eventually(lambda: shared.progress.look_seconds == LOOK_SECONDS)


async def test_what_was_published_last_goes_out_before_closing(redis_url: str) -> None:
    record_id, ingestion_id = uuid4(), uuid4()
    async with opened(redis_url, record_id=record_id) as server:
        with server.progress.subscribe(ingestion_id) as news:
            await eventually(lambda: server.progress.look_seconds == LOOK_SECONDS)
            news.clear()
            async with opened(redis_url, record_id=record_id) as worker:
                worker.progress.publish([ingestion_id])
            with anyio.fail_after(20):
                await news.wait()


async def test_a_large_value_is_not_kept(redis_url: str) -> None:
    async with opened(redis_url) as shared:
        await shared.cache.set_many({"large": bytes(2_000_000), "small": b"1"}, ttl_seconds=60)
        assert await shared.cache.get_many(["large", "small"]) == [None, b"1"]
