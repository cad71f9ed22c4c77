"""A memory with a Redis: answers are kept and never stale, and losing it costs speed only."""

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from apex_mcp.app import App
from apex_mcp.errors import NotFound
from apex_mcp.views import DocumentView, IngestionView, SearchView
from tests.doubles.openai_server import OpenAIServer
from tests.e2e.apps import CALLER, app_without_worker, ended, working
from tests.services.redis_server import RedisServer, running_redis
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
async def module_app(
    tmp_path_factory: pytest.TempPathFactory, module_server: RedisServer
) -> AsyncGenerator[App]:
    url = SecretStr(module_server.url)
    async with app_without_worker(tmp_path_factory.mktemp("home"), redis_url=url) as app, working(app):
        yield app


@pytest.fixture
async def redis(module_server: RedisServer) -> AsyncGenerator[Any]:
    """A client; the server is empty."""
    async with cast("Any", Redis).from_url(module_server.url) as client:
        await client.flushall()
        yield client


@dataclass(frozen=True)
class Notes:
    """A namespace of the test's own."""

    app: App
    namespace: str

    async def remember(self, text: str, **given: Any) -> IngestionView:
        accepted = await self.app.memory.add_memory(CALLER, text=text, namespace=self.namespace, **given)
        return (await ended(self.app, [accepted]))[0]

    async def search(self, query: str, **given: Any) -> SearchView:
        asked: dict[str, Any] = {"namespace": self.namespace, **given}
        return await self.app.memory.search(CALLER, query=query, **asked)

    async def found(self, query: str, **given: Any) -> list[str]:
        return [hit.text for hit in (await self.search(query, **given)).hits]

    async def read(self, **given: Any) -> DocumentView:
        return await self.app.memory.get_document(CALLER, namespace=self.namespace, **given)


@pytest.fixture
def notes(module_app: App) -> Notes:
    return Notes(module_app, f"n-{uuid4().hex[:8]}")


async def answers_in(redis: Any) -> set[bytes]:
    return set(await redis.keys("apex:*:answer:*"))


async def test_an_answer_is_kept_and_a_write_is_seen_at_once(notes: Notes, redis: Any) -> None:
    await notes.remember("The lighthouse keeper is Ada.", key="keeper")
    once = await notes.search("lighthouse keeper")
    kept = await answers_in(redis)
    assert await notes.search("lighthouse keeper") == once
    assert len(kept) == 1
    assert await answers_in(redis) == kept
    await notes.remember("The lighthouse keeper is Bob.", key="keeper")
    assert await notes.found("lighthouse keeper") == ["The lighthouse keeper is Bob."]
    assert len(await answers_in(redis)) == 2


async def test_another_question_limit_or_namespace_is_another_answer(notes: Notes, redis: Any) -> None:
    await notes.remember("The lighthouse keeper is Ada.")
    await notes.remember("The lighthouse was built in 1890.")
    assert len(await notes.found("lighthouse")) == 2
    assert len(await notes.found("lighthouse", limit=1)) == 1
    assert await notes.found("lighthouse", namespace="other") == []
    keys = await answers_in(redis)
    assert len(keys) == 3
    assert b"lighthouse" not in b" ".join(keys)


async def test_a_document_is_kept_and_its_next_version_is_read_at_once(notes: Notes, redis: Any) -> None:
    first = await notes.remember("Ada keeps the lighthouse.", key="keeper")
    for _ in range(2):
        assert (await notes.read(key="keeper")).text == "Ada keeps the lighthouse."
    assert len(await answers_in(redis)) == 1
    await notes.remember("Bob keeps the lighthouse.", key="keeper")
    view = await notes.read(document_id=first.document_id)
    assert (view.text, view.source.version) == ("Bob keeps the lighthouse.", 2)
    with pytest.raises(NotFound):
        await notes.read(key="another")


async def test_answers_that_may_hold_what_was_forgotten_are_kept_no_longer(notes: Notes, redis: Any) -> None:
    await notes.remember("The lighthouse keeper is Ada.", key="keeper")
    await notes.remember("The lighthouse was built in 1890.")
    other = Notes(notes.app, f"{notes.namespace}-other")
    await other.remember("The lighthouse keeper is Bob.")
    for some in (notes, other):
        await some.found("lighthouse")
    before = await answers_in(redis)
    await notes.app.memory.forget(CALLER, keys=["keeper"], namespace=notes.namespace, confirm=True)
    after = await answers_in(redis)
    assert (len(before), len(after), after < before) == (2, 1, True)
    assert await notes.found("lighthouse") == ["The lighthouse was built in 1890."]
    assert await other.found("lighthouse") == ["The lighthouse keeper is Bob."]


async def test_what_is_kept_is_given_and_what_is_no_answer_is_made_anew(notes: Notes, redis: Any) -> None:
    await notes.remember("The lighthouse keeper is Ada.")
    view = await notes.search("keeper")
    for kept, given in [
        (view.model_copy(update={"hits": []}).model_dump_json(), []),
        ('{"query": 1}', ["The lighthouse keeper is Ada."]),
    ]:
        [key] = await answers_in(redis)
        await redis.set(key, kept)
        assert await notes.found("keeper") == given


async def test_all_goes_on_when_redis_dies_and_comes_back_without_what_it_held(
    notes: Notes, module_server: RedisServer
) -> None:
    await notes.remember("The lighthouse keeper is Ada.", key="keeper")
    await notes.found("keeper")
    module_server.kill()
    await notes.remember("The lighthouse keeper is Bob.", key="keeper")
    for _ in range(3):
        assert await notes.found("keeper") == ["The lighthouse keeper is Bob."]
    stats = await notes.app.memory.get_stats(CALLER)
    [state] = [store.state for store in stats.stores if store.name == "redis"]
    assert state == "down"
    assert any(note.startswith("redis: Redis does not answer") for note in stats.degraded)
    module_server.start()

    async def kept() -> bool:
        assert await notes.found("keeper") == ["The lighthouse keeper is Bob."]
        async with cast("Any", Redis).from_url(module_server.url) as redis:
            return bool(await answers_in(redis))

    await eventually(kept)
    assert (await notes.app.memory.get_stats(CALLER)).degraded == []


async def test_a_redis_that_died_and_came_back_unseen_is_told_as_it_is(
    notes: Notes, module_server: RedisServer
) -> None:
    async def told() -> str:
        stats = await notes.app.memory.get_stats(CALLER)
        return next(store.state for store in stats.stores if store.name == "redis")

    async def down() -> bool:
        return await told() == "down"

    async def well() -> bool:
        return await told() == "ok"

    assert await told() == "ok"
    module_server.kill()
    # Nothing else asks it meanwhile.
    await eventually(down)
    module_server.start()
    await eventually(well)


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
            await Notes(app, "default").remember("The lighthouse keeper is Ada.")

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
