"""A process that is stopped at a point, sleeps through a purge of what it works on, and wakes up: that changes nothing."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import anyio
import pytest

from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import IngestionState
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.vectors.qdrant_home import QdrantHome, qdrant_client
from tests.chaos.documents import marks
from tests.doubles.qdrant_server import QdrantServer
from tests.faults.conftest import Servers
from tests.faults.living import Living
from tests.faults.numbers import next_number
from tests.faults.stories import REPEATED, Stories, Story

pytestmark = [pytest.mark.faults, pytest.mark.anyio, pytest.mark.xdist_group("faults")]

WAYS: dict[str, Story] = {
    "step.prepare_group": Stories.note,
    "step.generate_embeddings": Stories.note,
    "step.write_to_databases": Stories.note,
    "index.upsert": Stories.note,
    "record.commit": Stories.note,
    "step.stage_document": Stories.file,
    "staging.put": Stories.file,
    "step.parse_document": Stories.file,
    "step.extract_entities": Stories.file,
    "step.cleanup_staging": Stories.file,
    "staging.delete": Stories.file,
}
POINTS = [
    point for work in WAYS for where in ("before", "after") if (point := f"{work}.{where}") not in REPEATED
]
COMMITTED = ("record.commit.after", "step.write_to_databases.after", "step.cleanup_staging", "staging.delete")


@dataclass
class Other:
    """Another process of the same record, by whom a run is taken away."""

    record: Record
    keeper: IndexKeeper

    async def purge(self, document_id: UUID, ingestion_id: UUID, claim: UUID) -> None:
        """Both passes; the second one comes hours later as a rule."""
        await self.keeper.purge_run(document_id, ingestion_id, claim)
        async with self.record.database.connection() as connection:
            await connection.execute("UPDATE purges SET next_pass_at = clock_timestamp() WHERE passes = 1")
        await self.keeper._upkeep.purge(await self.record.purges.due())


@pytest.fixture(scope="module")
def qdrant() -> Generator[QdrantServer]:
    with QdrantServer() as server:
        yield server


@pytest.fixture(scope="module")
async def stories(servers: Servers, qdrant: QdrantServer) -> AsyncGenerator[Stories]:
    living = Living(servers.place("pauses", qdrant_url=qdrant.url))
    await living.start()
    yield Stories(living)
    living.kill()


@pytest.fixture
async def other(stories: Stories, qdrant: QdrantServer) -> AsyncGenerator[Other]:
    async with open_record(stories.place.conninfo) as record, qdrant_client(qdrant.url, None) as client:
        home = QdrantHome(client, (await record.index_log.identity()).record_id)
        keeper = await IndexKeeper.open(record=record, home=home, embedder=None)
        yield Other(record, keeper)
        await keeper.close()


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_that_was_given_to_another_one_writes_once(
    stories: Stories, other: Other, point: str
) -> None:
    number, running, [ingestion, document, claim] = await _stopped(stories, point)
    await other.record.outbox.release([ingestion], claim=claim, alone=True)
    await other.purge(document, ingestion, claim)
    stories.living.wake()
    await running
    await stories.until_searchable(number, 1)
    await stories.all_is_well()
    assert await stories.found(marks(number, 1).document) == 1


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_that_was_cancelled_writes_nothing(stories: Stories, other: Other, point: str) -> None:
    number, running, [ingestion, document, claim] = await _stopped(stories, point)
    await other.record.ingestions.finish(ingestion, IngestionState.CANCELLED, claim=claim)
    await other.purge(document, ingestion, claim)
    stories.living.wake()
    await running
    await stories.idle()
    await stories.all_is_well()
    committed = point.startswith(COMMITTED)
    assert stories.state(number) == ("ready" if committed else "cancelled", "")
    assert await stories.found(marks(number, 1).document) == committed


async def _stopped(stories: Stories, point: str) -> tuple[int, "asyncio.Task[Any]", tuple[UUID, UUID, UUID]]:
    """A document's number, who waits for it to be accepted, and its ingestion, document and claim; the process is stopped."""
    number, story = next_number(), WAYS[point.rpartition(".")[0]]
    stories.place.clear()
    running = asyncio.ensure_future(story(stories, number, lambda: stories.place.ask(point, "stop")))
    await stories.living.stopped()
    rows = await anyio.to_thread.run_sync(
        lambda: stories.place.rows(
            "SELECT i.id, i.document_id, coalesce(i.claim, i.id) FROM ingestions i JOIN documents d "
            "ON d.id = i.document_id WHERE d.key = %s",
            f"log/{number}",
        )
    )
    return number, running, rows[0]
