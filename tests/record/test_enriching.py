"""What a model adds to versions that are read at the same time, on a real record and at the double of an endpoint."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest

from apex_mcp.ingestion.embedding.protocol import Embedder, EmbedderState, Readiness
from apex_mcp.ingestion.enriching.enricher import Enricher
from apex_mcp.models import EnrichmentState, Extraction
from apex_mcp.settings import load_settings
from apex_mcp.stores.cache.process import ProcessLock
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.enrichments import Enriched, Enrichment, EnrichmentStore, Overtaken
from apex_mcp.stores.record.timeline import EXCLUSIVE
from tests.doubles.openai_server import OpenAIServer, vector_of
from tests.ingestion.enriching.models import extractor_at
from tests.record.graphs import begin, look, names, tell, works_at

pytestmark = pytest.mark.anyio


@pytest.fixture
def model() -> Generator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


class Names:
    """An embedder for which names are alike that share words."""

    name, state = "words", EmbedderState(readiness=Readiness.READY, text="")

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        return [vector_of(text, 64) for text in texts]


class InStep(EnrichmentStore):
    """A store at which the first tries to publish wait for each other: all were resolved before any is published."""

    def __init__(self, record: Record, parties: int) -> None:
        super().__init__(record.database, EXCLUSIVE)
        self._barrier = asyncio.Barrier(parties)
        self._waited: set[Any] = set()
        self.tries = 0

    async def publish(self, version_id: Any, claim: Any, enriched: Enriched, *, alone: bool = False) -> bool:
        self.tries += 1
        if version_id not in self._waited:
            self._waited.add(version_id)
            await self._barrier.wait()
        return await super().publish(version_id, claim, enriched, alone=alone)


@asynccontextmanager
async def enricher(
    record: Record, model: OpenAIServer, *, store: EnrichmentStore | None = None, **changes: Any
) -> AsyncGenerator[Enricher]:
    async with AsyncExitStack() as stack:
        yield Enricher(
            settings=load_settings(llm="openai", **changes),
            store=store or record.enrichments,
            extractor=await stack.enter_async_context(extractor_at(model, **changes)),
            embedder=cast("Embedder", Names()),
            exclusive=EXCLUSIVE,
            lock=ProcessLock(),
        )


async def read(enriching: Enricher, work: Enrichment) -> EnrichmentState:
    await enriching.extract(work.version_id, work.claim)
    return await enriching.publish(work.version_id, work.claim)


async def read_at_once(record: Record, model: OpenAIServer, *texts: tuple[str, str]) -> InStep:
    """Texts with their dates, all resolved before the first of them is published."""
    works: list[Enrichment] = []
    for number, (text, dated) in enumerate(texts):
        await tell(record, str(number), Extraction(), text=text, dated=dated, enrich=True)
        works.append(await begin(record))
    store = InStep(record, len(works))
    async with enricher(record, model, store=store) as enriching, asyncio.timeout(60):
        states = await asyncio.gather(*(read(enriching, work) for work in works))
    assert states == [EnrichmentState.DONE] * len(works)
    return store


async def test_what_two_texts_say_of_one_fact_meets_when_they_are_read_at_once(
    record: Record, model: OpenAIServer
) -> None:
    await read_at_once(
        record,
        model,
        ("Jane Doe works at Initech.", "2023-03-01"),
        ("Jane Doe left Initech on 2024-05-01.", "2024-06-01"),
    )
    (jane,) = await look(record, "Jane Doe")
    assert {(one.predicate, one.current) for one in jane.facts if one.predicate == "works_at"} == {
        ("works_at", False)
    }


async def test_names_that_mean_the_same_meet_when_they_are_read_at_once(
    record: Record, model: OpenAIServer
) -> None:
    board = "Northern Harbour Tide Measuring Board Of Greater Ostmere Bay Region With All Lesser Islands {} Survey"
    await read_at_once(
        record,
        model,
        (f"{board.format('Rocks')} acquired Zed.", "2024-01-01"),
        (f"{board.format('Shoals')} acquired Qux.", "2024-01-02"),
    )
    (shown,) = await look(record, "Northern Harbour")
    assert {one.object for one in shown.facts} == {"Zed", "Qux"}


async def test_many_that_are_read_at_once_all_come_to_an_end(record: Record, model: OpenAIServer) -> None:
    texts = [(f"Person{letter} Doe works at Initech.", "2024-01-01") for letter in "ABCDEFGH"]
    store = await read_at_once(record, model, *texts)
    (initech,) = await look(record, "Initech")
    assert len(initech.facts) == len(texts)
    # Whoever is overtaken has the others wait after a few tries.
    assert len(texts) <= store.tries <= 4 * len(texts)


async def test_what_was_resolved_before_another_was_published_is_not_published_as_it_is(
    record: Record,
) -> None:
    works: list[Enrichment] = []
    for key in ("one", "two"):
        await tell(record, key, Extraction(), enrich=True)
        works.append(await begin(record))
    one, two = works
    store, seen = record.enrichments, await record.enrichments.published("default")
    found = Enriched(extraction=works_at("Ann Lee", "Globex"), seen=seen)
    assert await store.publish(one.version_id, one.claim, found)
    later = Enriched(extraction=works_at("Bob Ray", "Acme"), seen=seen)
    with pytest.raises(Overtaken):
        await store.publish(two.version_id, two.claim, later)
    assert await look(record, "Bob Ray") == []
    again = Enriched(extraction=later.extraction, seen=await store.published("default"))
    async with store.publishing_alone("default"):
        with pytest.raises(Overtaken):
            await store.publish(two.version_id, two.claim, again)
        assert await store.publish(two.version_id, two.claim, again, alone=True)
    assert names(await look(record, "Bob Ray")) == ["Bob Ray"]
