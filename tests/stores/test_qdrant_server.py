"""What the index on a Qdrant server does besides what every vector index does."""

import asyncio
import random
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID, uuid4

import pytest

from apex_mcp.errors import ApexError, Code, Invariant, Rejected, Unavailable
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.health import Health
from apex_mcp.stores.vectors import qdrant_errors
from apex_mcp.stores.vectors.qdrant_home import QdrantHome, check_version, qdrant_client
from apex_mcp.stores.vectors.qdrant_server import QdrantVectorIndex
from tests.doubles.qdrant_server import QdrantServer
from tests.stores.index_points import MINE, retirement, unit_vector, version_of

pytestmark = pytest.mark.anyio

RECORD = UUID("11111111-2222-3333-4444-555555555555")


@pytest.fixture
def server() -> Generator[QdrantServer]:
    with QdrantServer() as running:
        yield running


@asynccontextmanager
async def opened(
    server: QdrantServer,
    *,
    record_id: UUID = RECORD,
    embedder: str | None = "test",
    dimension: int | None = 8,
    breaker: CircuitBreaker | None = None,
) -> AsyncGenerator[QdrantVectorIndex]:
    async with qdrant_client(server.url, None) as client:
        yield await QdrantVectorIndex.open(
            client,
            "apex-test",
            record_id=record_id,
            embedder=embedder,
            dimension=dimension,
            breaker=breaker,
        )


async def nobody_minds() -> None:
    """Whoever would be told of an empty index."""


async def test_looking_at_a_server_and_tidying_it_are_left_alone_while_it_is_down(
    server: QdrantServer,
) -> None:
    server.faults.extend([503] * 1_000)
    breaker = CircuitBreaker("vectors", Code.VECTORS_UNAVAILABLE, Health(), rest_seconds=3600)
    async with qdrant_client(server.url, None) as client:
        home = QdrantHome(client, RECORD, breaker=breaker)
        opened = partial(
            home.open,
            "one",
            record_id=RECORD,
            embedder=None,
            dimension=None,
            on_lost=lambda: None,
            on_empty=nobody_minds,
        )
        for ask in (opened, opened, partial(home.remove_others, "one")):
            with pytest.raises(Unavailable):
                await ask()
        asked = len(server.requests)
        with pytest.raises(Unavailable):
            await opened()
        assert len(server.requests) == asked == 3


@pytest.mark.parametrize("version", ["1.18.3", "0.9.0", "unknown"])
async def test_a_server_that_is_too_old_is_refused_by_its_version(server: QdrantServer, version: str) -> None:
    server.version = version
    with pytest.raises(Rejected, match=version) as refused:
        async with qdrant_client(server.url, None) as client:
            await check_version(client)
    assert refused.value.code is Code.SETTINGS_INVALID
    assert "1.19" in refused.value.message


@pytest.mark.parametrize("version", ["1.19.0", "1.20.1-dev", "2.0.0"])
async def test_a_server_that_is_new_enough_is_taken(server: QdrantServer, version: str) -> None:
    server.version = version
    async with qdrant_client(server.url, None) as client:
        await check_version(client)
        assert server.requests == ["GET /"]


async def test_only_the_right_key_opens_the_server(server: QdrantServer) -> None:
    server.api_key = "right"
    for key in ("wrong", None):
        with pytest.raises(Rejected) as refused:
            async with qdrant_client(server.url, key) as client:
                await check_version(client)
        assert refused.value.code is Code.SETTINGS_INVALID
        assert "APEX_QDRANT_API_KEY" in refused.value.next_step
    async with qdrant_client(server.url, "right") as client:
        assert (await client.get_collections()).collections == []


@pytest.mark.parametrize("url", ["http://[", "ftp://host", "http://host:port"])
async def test_an_address_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(Rejected) as refused:
        async with qdrant_client(url, None):
            pass
    assert refused.value.code is Code.SETTINGS_INVALID


@pytest.mark.parametrize("fault", [500, 503, 429, 0])
async def test_a_server_that_fails_is_unavailable_and_the_same_call_works_later(
    server: QdrantServer, fault: int
) -> None:
    points = version_of("heron")
    async with opened(server) as index:
        server.faults.append(fault)
        with pytest.raises(Unavailable) as failed:
            await index.upsert(points)
        assert failed.value.code is Code.VECTORS_UNAVAILABLE
        assert failed.value.retry_after_seconds
        await index.upsert(points)
        assert await index.count() == 1


async def test_a_server_without_any_collection_is_there_all_the_same(server: QdrantServer) -> None:
    async with qdrant_client(server.url, None) as client:
        home = QdrantHome(client, uuid4())
        await home.verify()
        server.faults.append(503)
        with pytest.raises(Unavailable):
            await home.verify()


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    with QdrantServer() as server:
        url = server.url
    with pytest.raises(Unavailable) as failed:
        async with qdrant_client(url, None) as client:
            await check_version(client)
    assert failed.value.code is Code.VECTORS_UNAVAILABLE


async def test_after_three_failures_the_server_is_left_alone(server: QdrantServer) -> None:
    breaker = CircuitBreaker("vectors", Code.VECTORS_UNAVAILABLE, health := Health(), rest_seconds=60)
    async with opened(server, breaker=breaker) as index:
        server.faults.extend([500] * 3)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await index.count()
        asked = len(server.requests)
        with pytest.raises(Unavailable):
            await index.count()
    assert len(server.requests) == asked
    assert health.of("vectors").state == "down"


async def test_a_server_that_hangs_is_not_waited_for_by_who_only_looks(
    server: QdrantServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_errors, "LOOK_SECONDS", 0.2)
    health = Health()
    breaker = CircuitBreaker("vectors", Code.VECTORS_UNAVAILABLE, health)
    async with opened(server, breaker=breaker) as index, qdrant_client(server.url, None) as client:
        server.held.clear()
        try:
            # Less than the client waits for an answer to a write.
            async with asyncio.timeout(15):
                for look in (index.ready, QdrantHome(client, RECORD, breaker=breaker).verify):
                    with pytest.raises(Unavailable):
                        await look()
        finally:
            server.held.set()
    assert health.of("vectors").detail == "the Qdrant server does not answer"


async def test_the_point_that_says_whose_index_it_is_is_neither_counted_nor_found(
    server: QdrantServer,
) -> None:
    async with opened(server) as index:
        await index.flush("7")
        assert server.engine.count("apex-test").count == 1
        assert await index.count() == 0
        assert await index.version_ids() == set()
        assert await index.search_dense(unit_vector(random.Random(1)), MINE, limit=10) == []
        [point] = version_of("heron")
        await index.upsert([point])
        assert await index.count() == 1
        assert await index.version_ids() == {point.version_id}


async def test_two_processes_share_what_is_written_and_how_far_it_goes(server: QdrantServer) -> None:
    points = version_of("heron", "heron again")
    async with opened(server) as one, opened(server) as other:
        await one.upsert(points)
        await one.flush("41")
        assert len(await other.search_words("heron", MINE, limit=10)) == 2
        await other.ready()
        assert other.position() == "41"
        await other.retire([retirement(points, 1, 2)])
        assert await one.search_words("heron", MINE, limit=10) == []


@pytest.mark.parametrize("foreign", ["record", "embedder", "dimension"])
async def test_an_index_of_another_record_or_other_vectors_starts_again_empty(
    server: QdrantServer, foreign: str
) -> None:
    async with opened(server) as index:
        await index.upsert(version_of("heron", dense=[unit_vector(random.Random(2))]))
        await index.flush("41")
    async with opened(server, embedder=None, dimension=None) as index:
        assert (index.position(), index.dimension, await index.count()) == ("41", 8, 1)
    async with opened(
        server,
        record_id=uuid4() if foreign == "record" else RECORD,
        embedder="another" if foreign == "embedder" else "test",
        dimension=16 if foreign == "dimension" else 8,
    ) as index:
        assert (index.position(), await index.count()) == (None, 0)
        assert index.dimension == (16 if foreign == "dimension" else 8)


async def test_a_collection_that_nobody_finished_making_is_made_anew(server: QdrantServer) -> None:
    server.engine.create_collection("apex-test", vectors_config={})
    async with opened(server) as index:
        [point] = version_of("heron", dense=[unit_vector(random.Random(3))])
        await index.upsert([point])
        assert len(await index.search_words("heron", MINE, limit=1)) == 1


async def test_a_collection_that_is_gone_is_noticed_and_made_again(server: QdrantServer) -> None:
    async with opened(server) as index:
        await index.upsert(version_of("heron"))
        await index.flush("41")
        server.drop("apex-test")
        with pytest.raises(Unavailable):
            await index.search_words("heron", MINE, limit=1)
        assert await index.ready() == 1
        assert (index.position(), await index.count()) == (None, 0)


async def test_a_server_restored_to_an_earlier_state_is_noticed_before_a_position_is_noted(
    server: QdrantServer,
) -> None:
    async with opened(server) as index, opened(server) as restoring:
        await index.flush("41")
        await restoring.ready()
        await restoring.flush("17")
        with pytest.raises(Unavailable):
            await index.flush("42", generation=0)
        assert (index.position(), index.generation) == ("17", 1)
        await index.flush("43", generation=1)
        assert index.position() == "43"


async def test_an_index_of_words_takes_vectors_later_and_other_processes_learn_it(
    server: QdrantServer,
) -> None:
    vector = unit_vector(random.Random(4))
    async with (
        opened(server, embedder="test", dimension=None) as one,
        opened(server, embedder="test", dimension=None) as other,
    ):
        await one.upsert(version_of("words only"))
        assert await one.search_dense(vector, MINE, limit=10) == []
        await one.enable_dense("test", 8)
        [point] = version_of("heron", dense=[vector])
        with pytest.raises(Invariant):
            await other.upsert([point])
        for _ in range(2):
            await other.enable_dense("test", 8)
        await other.upsert([point])
        assert [one.chunk_id for one in await one.search_dense(vector, MINE, limit=10)] == [point.id]
        with pytest.raises(Invariant):
            await one.enable_dense("another", 8)


async def test_two_records_on_one_server_do_not_meet_and_only_the_own_unused_indexes_go(
    server: QdrantServer,
) -> None:
    async with qdrant_client(server.url, None) as client:
        mine, theirs = RECORD, uuid4()
        homes = {
            record: QdrantHome(client, record, grace_seconds=grace)
            for record, grace in ((mine, 0), (theirs, 60))
        }

        async def open_one(record: UUID, name: str) -> QdrantVectorIndex:
            return await homes[record].open(
                name,
                record_id=record,
                embedder=None,
                dimension=None,
                on_lost=lambda: None,
                on_empty=nobody_minds,
            )

        for record in homes:
            for name in ("index-0", "index-1"):
                await open_one(record, name)
        await (await open_one(mine, "index-1")).upsert(version_of("heron"))
        assert await (await open_one(theirs, "index-1")).count() == 0
        assert len(server.collections()) == 4
        for home in homes.values():
            await home.remove_others("index-1")
        assert server.collections() == {
            f"apex-{mine.hex[:8]}-index-1",
            f"apex-{theirs.hex[:8]}-index-0",
            f"apex-{theirs.hex[:8]}-index-1",
        }


async def test_errors_quote_neither_address_nor_content(server: QdrantServer) -> None:
    async with opened(server) as index:
        for fault in (500, 403, 400, 0):
            server.faults.append(fault)
            with pytest.raises(ApexError) as failed:
                await index.search_words("secret heron", MINE, limit=1)
            assert "heron" not in str(failed.value.to_dict())
            assert "127.0.0.1" not in str(failed.value.to_dict())
