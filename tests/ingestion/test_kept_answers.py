"""Answers that Redis keeps, and an index that lacked something for a while: once that is mended, nobody gets them any more."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from pydantic import SecretStr

from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.staging import LocalStaging
from apex_mcp.ingestion.verifying import Verifier, of_vectors
from apex_mcp.presenting import present_hit
from apex_mcp.retrieval.cached import AnswerCache
from apex_mcp.settings import Settings
from apex_mcp.stores.cache.opening import open_shared
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.index_log import REBUILDING
from apex_mcp.views import SearchView
from tests.doubles.qdrant_server import QdrantServer
from tests.ingestion.keepers import process, remember, running, searcher, server
from tests.record.conftest import conninfo, postgres, record
from tests.waiting import eventually

__all__ = ["conninfo", "postgres", "record", "server"]

pytestmark = pytest.mark.anyio


@pytest.fixture
async def kept(record: Record, redis_url: str) -> AsyncGenerator[AnswerCache]:
    record_id = (await record.index_log.identity()).record_id
    settings = Settings(redis_url=SecretStr(redis_url))
    async with open_shared(settings, record_id=record_id, health=Health(), alone=False) as shared:
        yield AnswerCache(shared.cache, record.database, None)


async def ask(kept: AnswerCache, record: Record, keeper: IndexKeeper) -> SearchView:
    """As an operation does it."""

    async def search() -> SearchView:
        found = await searcher(record, keeper)()
        return SearchView(
            query="heron",
            namespace="default",
            hits=[present_hit(fused, row) for fused, row in found.passages],
            revision=found.revision,
            degraded=found.degraded,
        )

    return await kept.search("default", "heron", search)


async def test_what_was_not_found_is_found_once_a_repair_has_brought_it_back(
    record: Record,
    conninfo: str,
    server: QdrantServer,
    kept: AnswerCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(of_vectors, "_PAUSES_SECONDS", (0.01,))
    async with process(conninfo, server) as keeper, running(keeper):
        await remember(record, keeper, "note", "heron")
        await eventually(lambda: keeper.vectors.position() is not None)
        [version] = await keeper.vectors.version_ids()
        await keeper.vectors.delete_versions([version])
        lost = await ask(kept, record, keeper)
        assert (lost.hits, lost.degraded) == ([], [])
        assert await ask(kept, record, keeper) == lost
        verifier = Verifier(
            record=record, index=keeper, staging=LocalStaging(tmp_path), staging_ttl_seconds=0
        )
        async for _ in verifier.run(repair=True):
            pass
        mended = await ask(kept, record, keeper)
        assert (len(mended.hits), mended.degraded) == (1, [])


async def test_what_an_older_state_of_the_index_lacked_is_found_once_it_was_replayed(
    record: Record, conninfo: str, server: QdrantServer, kept: AnswerCache
) -> None:
    async with process(conninfo, server) as keeper:
        async with running(keeper):
            older = await eventually(lambda: keeper.vectors.position())
            async with record.index_log.alone(REBUILDING, wait_seconds=30) as alone:
                assert alone  # so the log is not cut, and tells all
                await remember(record, keeper, "note", "heron")
                await eventually(lambda: keeper.vectors.position() != older)
        use = await record.index_log.in_use()
        await keeper.vectors.delete_versions(list(await keeper.vectors.version_ids()))
        await keeper.vectors.flush(older)
        lost = await ask(kept, record, keeper)
        assert (lost.hits, lost.degraded) == ([], [])
    async with process(conninfo, server) as keeper, running(keeper):

        async def found_again() -> bool:
            answer = await ask(kept, record, keeper)
            return bool(answer.hits) and not answer.degraded

        await eventually(found_again)
        assert (await record.index_log.in_use()).same(use)
