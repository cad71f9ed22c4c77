"""Keepers of one record's vector index, each standing for a process, and what a test does with them."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import IndexFilter, IndexPoint, IngestionState
from apex_mcp.retrieval.search import Found, Searcher, SearchRequest
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.versions import NewVersion
from apex_mcp.stores.vectors.packing import pack
from apex_mcp.stores.vectors.qdrant_home import QdrantHome, qdrant_client
from tests.doubles.qdrant_server import QdrantServer
from tests.record import notes
from tests.stores.index_points import version_of
from tests.waiting import meanwhile

EVERYTHING = IndexFilter(namespace="default")


@pytest.fixture
def server() -> Generator[QdrantServer]:
    with QdrantServer() as running:
        yield running


@asynccontextmanager
async def process(
    conninfo: str, server: QdrantServer, embedder: Embedder | None = None, *, grace_seconds: float = 0.5
) -> AsyncGenerator[IndexKeeper]:
    """A keeper with connections of its own."""
    async with open_record(conninfo) as record, qdrant_client(server.url, None) as client:
        home = QdrantHome(client, (await record.index_log.identity()).record_id, grace_seconds=grace_seconds)
        yield await IndexKeeper.open(
            record=record, home=home, embedder=embedder, quiet_seconds=0.1, takeover_seconds=0.1
        )


@asynccontextmanager
async def running(keeper: IndexKeeper, *, upkeep: bool = True) -> AsyncGenerator[asyncio.Task[None]]:
    async with meanwhile(keeper.run(upkeep=upkeep)) as task:
        yield task


async def accept(
    record: Record, key: str, text: str, vector: tuple[str, list[float]] | None = None
) -> tuple[UUID, NewVersion, list[IndexPoint]]:
    """Accept and claim a note; its claim, its version and the version's points."""
    (ingestion,) = await record.ingestions.accept([notes.note(key, text)])
    token, _ = await notes.claim(record)
    (owned,) = await record.ingestions.get([ingestion])
    version = notes.version(owned, token, text)
    [point] = version_of(text, namespace="default", version_id=version.id, document_id=version.document_id)
    point = replace(point, id=version.chunk_id(0))
    if vector is not None:
        version = replace(version, embedder=vector[0], vectors=[pack(vector[1])])
        point = replace(point, dense=vector[1])
    return token, version, [point]


async def remember(record: Record, keeper: IndexKeeper, key: str, text: str) -> None:
    token, version, points = await accept(record, key, text)
    result = await keeper.commit(points, [version], token)
    assert list(result.states.values()) == [IngestionState.READY]


async def found(record: Record, keeper: IndexKeeper, word: str) -> int:
    """As a search does it: by the index that a snapshot of the record names."""
    async with record.reader.view("default") as view:
        vectors = await keeper.follow(view.index)
        return len(await vectors.search_words(word, EVERYTHING, limit=1_000))


async def reindexed(keeper: IndexKeeper) -> Sequence[tuple[str, int]]:
    return [step async for step in keeper.reindex()]


async def lacks(record: Record, keeper: IndexKeeper) -> str | None:
    return keeper.lacks(await record.index_log.in_use())


def searcher(record: Record, keeper: IndexKeeper) -> Callable[[], Coroutine[Any, Any, Found]]:
    asked = Searcher(record, keeper, None)
    request = SearchRequest(query="heron", where=EVERYTHING, limit=5)
    return lambda: asked.search(request)


def lose_files(folder: Path) -> None:
    """A folder goes all at once, also while its owner writes to it."""
    shutil.rmtree(folder.rename(folder.with_name(f"lost-{folder.name}")), ignore_errors=True)
