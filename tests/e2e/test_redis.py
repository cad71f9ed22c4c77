"""A memory with a Redis: answers are kept and never stale, and losing it costs speed only."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from apex_mcp.app import App
from apex_mcp.errors import NotFound
from apex_mcp.views import IngestionView, SearchView
from tests.doubles.openai_server import OpenAIServer
from tests.e2e.apps import CALLER, app_without_worker, ended, working
from tests.services.redis_server import RedisServer
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(tmp_path: Path, redis_server: RedisServer) -> AsyncGenerator[App]:
    async with (
        app_without_worker(tmp_path / "home", redis_url=SecretStr(redis_server.url)) as app,
        working(app),
    ):
        yield app


async def remembered(app: App, text: str, **given: Any) -> IngestionView:
    [view] = await ended(app, [await app.memory.add_memory(CALLER, text=text, **given)])
    return view


async def found(app: App, query: str, **given: Any) -> list[str]:
    return [hit.text for hit in (await app.memory.search(CALLER, query=query, **given)).hits]


async def answers_in(server: RedisServer) -> set[bytes]:
    async with Redis.from_url(server.url) as redis:  # pyright: ignore[reportUnknownMemberType]
        return set(cast("list[bytes]", await redis.keys("apex:*:answer:*")))  # pyright: ignore[reportUnknownMemberType]


async def test_an_answer_is_kept_and_a_write_is_seen_at_once(app: App, redis_server: RedisServer) -> None:
    await remembered(app, "The lighthouse keeper is Ada.", key="keeper")
    once = await app.memory.search(CALLER, query="lighthouse keeper")
    kept = await answers_in(redis_server)
    again = await app.memory.search(CALLER, query="lighthouse keeper")
    assert len(kept) == 1
    assert await answers_in(redis_server) == kept
    assert once == again
    await remembered(app, "The lighthouse keeper is Bob.", key="keeper")
    assert await found(app, "lighthouse keeper") == ["The lighthouse keeper is Bob."]
    assert len(await answers_in(redis_server)) == 2


async def test_another_question_limit_or_namespace_is_another_answer(
    app: App, redis_server: RedisServer
) -> None:
    await remembered(app, "The lighthouse keeper is Ada.")
    await remembered(app, "The lighthouse was built in 1890.")
    assert len((await app.memory.search(CALLER, query="lighthouse")).hits) == 2
    assert len((await app.memory.search(CALLER, query="lighthouse", limit=1)).hits) == 1
    assert await found(app, "lighthouse", namespace="other") == []
    assert len(await answers_in(redis_server)) == 3
    assert b"lighthouse" not in b" ".join(await answers_in(redis_server))


async def test_a_document_is_kept_and_its_next_version_is_read_at_once(
    app: App, redis_server: RedisServer
) -> None:
    first = await remembered(app, "Ada keeps the lighthouse.", key="keeper")
    for _ in range(2):
        assert (await app.memory.get_document(CALLER, key="keeper")).text == "Ada keeps the lighthouse."
    assert len(await answers_in(redis_server)) == 1
    await remembered(app, "Bob keeps the lighthouse.", key="keeper")
    view = await app.memory.get_document(CALLER, document_id=first.document_id)
    assert (view.text, view.source.version) == ("Bob keeps the lighthouse.", 2)
    with pytest.raises(NotFound):
        await app.memory.get_document(CALLER, key="another")


async def test_what_is_kept_is_given_and_what_is_no_answer_is_made_anew(
    app: App, redis_server: RedisServer
) -> None:
    await remembered(app, "The lighthouse keeper is Ada.")
    view = await app.memory.search(CALLER, query="keeper")
    for kept, given in [
        (view.model_copy(update={"hits": []}).model_dump_json(), []),
        ('{"query": 1}', ["The lighthouse keeper is Ada."]),
    ]:
        async with Redis.from_url(redis_server.url) as redis:  # pyright: ignore[reportUnknownMemberType]
            [key] = await answers_in(redis_server)
            await redis.set(key, kept)
        assert await found(app, "keeper") == given


async def test_all_goes_on_when_redis_dies_and_comes_back_without_what_it_held(
    app: App, redis_server: RedisServer
) -> None:
    await remembered(app, "The lighthouse keeper is Ada.", key="keeper")
    await found(app, "keeper")
    redis_server.kill()
    await remembered(app, "The lighthouse keeper is Bob.", key="keeper")
    for _ in range(3):
        assert await found(app, "keeper") == ["The lighthouse keeper is Bob."]
    stats = await app.memory.get_stats(CALLER)
    [redis] = [store for store in stats.stores if store.name == "redis"]
    assert redis.state == "down"
    assert any(note.startswith("redis: Redis does not answer") for note in stats.degraded)
    redis_server.start()

    async def kept() -> bool:
        assert await found(app, "keeper") == ["The lighthouse keeper is Bob."]
        return bool(await answers_in(redis_server))

    await eventually(kept)
    stats = await app.memory.get_stats(CALLER)
    assert stats.degraded == []


async def test_an_answer_that_lacks_vectors_is_not_kept(tmp_path: Path, redis_server: RedisServer) -> None:
    with OpenAIServer() as endpoint:
        async with (
            app_without_worker(
                tmp_path / "home",
                redis_url=SecretStr(redis_server.url),
                embedder="openai",
                openai_base_url=endpoint.base_url,
            ) as app,
            working(app),
        ):
            await remembered(app, "The lighthouse keeper is Ada.")

            async def whole() -> SearchView | None:
                view = await app.memory.search(CALLER, query="who keeps the lighthouse")
                return view if view.hits and "meaning" in view.hits[0].why and not view.degraded else None

            first = await eventually(whole)
            asked = len(endpoint.requests)
            assert await whole() == first
            for _ in range(3):
                kept = await app.memory.search(CALLER, query="who keeps the lighthouse")
                assert "meaning" in kept.hits[0].why, "what was found by words only was not kept"
            assert len(endpoint.requests) == asked, "the question's vector was kept too"
            embedder = (await app.memory.get_stats(CALLER)).stores[-1]
            assert "texts from the cache" in embedder.detail
