"""Where facts end by a model's word: in whatever order texts come, whoever says it, and while both facts are of one subject."""

from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from itertools import permutations
from uuid import UUID

import pytest

from apex_mcp.ingestion.enriching.enricher import Enricher
from apex_mcp.models import EnrichmentState, Extraction
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.enrichments import End, Enriched
from apex_mcp.stores.record.graph_rows import fact_id
from tests.doubles.openai_server import OpenAIServer
from tests.record.graphs import begin, day, entity, fact, forget, id_of, look, tell, works_at
from tests.record.test_enriching import enricher

pytestmark = pytest.mark.anyio

# A text with its date, under the letter by which an order names it.
TEXTS = {
    "W": ("Ulla Berg works at Initech Inc. since 2021.", "2022-01-01"),
    "A": ("Ulla Berg works at Initech Inc.", "2023-01-01"),
    "L": ("Ulla Berg left Initech Inc. in March 2024.", "2024-04-01"),
    "H": ("We hear: Ulla Berg left Initech Inc. in March 2024.", "2024-05-01"),
    "J": ("Ulla Berg joined Globex Corp. in June 2024.", "2024-07-01"),
    "T": ("Ulla Berg left Initech Inc.", "2024-08-01"),
    "U": ("Ulla Berg left Initech Inc.", "2024-09-01"),
    "B": ("Ulla Berg left Hooli Ltd. in May 2022.", "2022-06-01"),
}


@pytest.fixture
def model() -> Generator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture
async def enriching(record: Record, model: OpenAIServer) -> AsyncGenerator[Enricher]:
    async with enricher(record, model) as enriching:
        yield enriching


async def read(record: Record, enriching: Enricher, letter: str, *, namespace: str) -> UUID:
    text, dated = TEXTS[letter]
    version_id = await tell(
        record, letter, Extraction(), text=text, dated=dated, enrich=True, namespace=namespace
    )
    work = await begin(record)
    assert work.version_id == version_id
    await enriching.extract(work.version_id, work.claim)
    assert await enriching.publish(work.version_id, work.claim) is EnrichmentState.DONE
    return version_id


async def left_initech(
    record: Record, namespace: str, known_at: datetime | None = None
) -> list[datetime | None]:
    """When each stretch at Initech ended."""
    (ulla,) = await look(record, "Ulla Berg", namespace=namespace, known_at=known_at)
    return [
        one.invalid_at for one in ulla.facts if one.predicate == "works_at" and one.object == "Initech Inc."
    ]


def clashes(model: OpenAIServer) -> int:
    return sum("<CLASHES>" in str(chat.body["messages"]) for chat in model.chats())


@pytest.mark.parametrize("texts", ["WLJ", "WAL", "WJT", "WBL"])
async def test_a_fact_ends_at_the_same_time_in_whatever_order_the_texts_arrive(
    record: Record, enriching: Enricher, texts: str
) -> None:
    ended, without = {
        "WLJ": ("2024-03-01", {"L": "2024-06-01", "J": "2024-03-01"}),
        "WAL": ("2024-03-01", {"L": None, "W": "2024-03-01", "A": "2024-03-01"}),
        "WJT": ("2024-06-01", {"J": "2024-08-01", "T": "2024-06-01"}),
        "WBL": ("2024-03-01", {"B": "2024-03-01", "L": None}),
    }[texts]
    for forgotten, then in without.items():
        for order in permutations(texts):
            namespace = f"{forgotten}-{''.join(order)}".lower()
            versions = {
                letter: await read(record, enriching, letter, namespace=namespace) for letter in order
            }
            assert await left_initech(record, namespace) == [day(ended)], order
            await forget(record, versions[forgotten])
            assert await left_initech(record, namespace) == [day(then) if then else None], (order, forgotten)


@pytest.mark.parametrize("how", ["forgotten", "replaced"])
@pytest.mark.parametrize("order", ["WLH", "WHL", "LWH", "LHW"])
async def test_a_fact_stays_ended_while_a_text_still_says_so(
    record: Record, model: OpenAIServer, enriching: Enricher, order: str, how: str
) -> None:
    versions: dict[str, UUID] = {}
    asked: dict[str, int] = {}
    for letter in order:
        before = clashes(model)
        versions[letter] = await read(record, enriching, letter, namespace="n")
        asked[letter] = clashes(model) - before
    # Of the two that say it, the second is asked nothing.
    assert sum(asked.values()) == 1
    between = datetime.now(UTC)
    if how == "forgotten":
        await forget(record, versions["L"])
    else:
        await tell(record, "L", Extraction(), text="Cheese.", dated="2024-04-01", namespace="n")
        assert await left_initech(record, "n", known_at=between) == [day("2024-03-01")]
    assert await left_initech(record, "n") == [day("2024-03-01")]
    await tell(record, "H", Extraction(), text="Cheese.", dated="2024-05-01", namespace="n")
    assert await left_initech(record, "n") == [None]


async def test_who_says_without_a_date_that_something_ended_says_it_of_the_texts_own_time(
    record: Record, enriching: Enricher
) -> None:
    versions = {letter: await read(record, enriching, letter, namespace="n") for letter in "WTU"}
    assert await left_initech(record, "n") == [day("2024-08-01")]
    await forget(record, versions["T"])
    assert await left_initech(record, "n") == [day("2024-09-01")]


async def test_an_end_counts_while_both_facts_are_of_one_subject(record: Record) -> None:
    await tell(record, "works", works_at("Maria Gomez", "Initech", since="2021-01-01"), dated="2022-01-01")
    named = Extraction(entities=(entity("Maria Lopez", "Person", "Maria Gomez"),))
    await tell(record, "left", named, dated="2024-04-01", enrich=True)
    left = fact("Maria Lopez", "left", "Initech", since="2024-03-01")
    job = fact("Maria Gomez", "works_at", "Initech", since="2021-01-01")
    end = End(by_id=fact_id("default", left), ended_id=fact_id("default", job), at=day("2024-03-01"))
    work = await begin(record)
    found = Extraction(entities=(entity("Maria Lopez", "Person"), entity("Initech")), facts=(left,))
    assert await record.enrichments.publish(
        work.version_id, work.claim, Enriched(extraction=found, ends=(end,))
    )

    async def ended(known_at: datetime | None = None) -> list[datetime | None]:
        views = await look(record, "Maria Gomez", known_at=known_at)
        return [one.invalid_at for view in views for one in view.facts if one.predicate == "works_at"]

    assert await ended() == [day("2024-03-01")]
    before = datetime.now(UTC)
    await record.splits.split("default", id_of("Maria Gomez"), id_of("Maria Lopez"))
    assert await ended() == [None]
    assert await ended(known_at=before) == [day("2024-03-01")]
    await record.splits.join("default", id_of("Maria Gomez"), id_of("Maria Lopez"))
    assert await ended() == [day("2024-03-01")]
