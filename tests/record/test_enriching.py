"""What a model adds to versions that are read at the same time, on a real record and at the double of an endpoint."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import permutations
from typing import Any, cast

import pytest

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding.protocol import Embedder, EmbedderState, Readiness
from apex_mcp.ingestion.enriching.enricher import Enricher
from apex_mcp.models import EnrichmentState, Extraction
from apex_mcp.presenting import present_ingestion
from apex_mcp.settings import load_settings
from apex_mcp.stores.cache.process import ProcessLock
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.enrichments import Enriched, Enrichment, EnrichmentStore, Overtaken
from apex_mcp.stores.record.timeline import EXCLUSIVE
from tests.doubles.openai_server import (
    Body,
    CutConnection,
    Fault,
    OpenAIServer,
    Refuse,
    Say,
    Status,
    vector_of,
)
from tests.ingestion.enriching.models import extractor_at
from tests.record.graphs import begin, look, names, tell, works_at
from tests.waiting import eventually

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
    board = (
        "Northern {} Tide Measuring Board Of Greater Ostmere Bay Region With All Lesser Islands Rocks Survey"
    )
    await read_at_once(
        record,
        model,
        (f"{board.format('Harbour')} acquired Zed.", "2024-01-01"),
        (f"{board.format('Harbor')} acquired Qux.", "2024-01-02"),
    )
    (shown,) = await look(record, "Northern")
    assert {one.object for one in shown.facts} == {"Zed", "Qux"}


@pytest.mark.parametrize(
    "order",
    list(
        permutations((
            "Juan Carlos Maria Perez Gomez works at Initech.",
            "Jorge Carlos Maria Perez Gomez works at Globex.",
            "J Carlos Maria Perez Gomez lives in Madrid.",
        ))
    ),
)
async def test_two_people_whom_the_model_told_apart_do_not_meet_through_a_third_name(
    record: Record, model: OpenAIServer, order: Sequence[str]
) -> None:
    async with enricher(record, model) as enriching:
        for number, text in enumerate(order):
            await tell(record, str(number), Extraction(), text=text, dated="2024-01-01", enrich=True)
            assert await read(enriching, await begin(record)) is EnrichmentState.DONE
    said = {view.name.split()[0]: {one.object for one in view.facts} for view in await look(record, "Gomez")}
    assert said == {"Juan": {"Initech"}, "Jorge": {"Globex"}, "J": {"Madrid"}}


async def test_a_model_is_asked_whether_companies_of_other_legal_forms_are_one_and_a_fact_says_it_too(
    record: Record, model: OpenAIServer
) -> None:
    async def say(key: str, text: str) -> dict[str, list[str]]:
        await tell(record, key, Extraction(), text=text, dated="2024-01-01", enrich=True)
        async with enricher(record, model) as enriching:
            await read(enriching, await begin(record))
        return {
            view.name: [one.reason for one in view.merged_from]
            for view in await look(record, "Acme")
            if view.name.startswith("Acme")
        }

    await say("one", "Acme GmbH acquired Zed.")
    assert await say("two", "Acme Inc. acquired Qux.") == {"Acme GmbH": ["model"]}
    assert any("DOUBTS" in str(request.body) for request in model.chats())
    assert await say("three", "Acme GmbH is a subsidiary of Acme Inc.") == {"Acme GmbH": [], "Acme Inc.": []}


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


NOTE = "Jane Doe works at Initech. " * 40


async def spent(record: Record) -> dict[str, float]:
    row = await record.database.fetch_one("SELECT usage FROM enrichments")
    assert row is not None
    return row["usage"]


async def one_to_read(record: Record, *passages: str) -> Enrichment:
    await tell(
        record, "one", Extraction(), text=NOTE, dated="2024-01-01", enrich=True, passages=passages or (NOTE,)
    )
    return await begin(record)


async def read_until_spent(record: Record, model: OpenAIServer, **limits: Any) -> None:
    """A new run each time, as after a crash, and a retry by the user where it failed; until nothing is left to spend."""
    work = await one_to_read(record)
    async with asyncio.timeout(60):
        while True:
            async with enricher(record, model, **limits) as enriching:
                try:
                    await enriching.extract(work.version_id, work.claim)
                    raise AssertionError("the model answers nothing that can be used")
                except Unavailable as error:
                    await record.enrichments.wait(work.version_id, work.claim, error, seconds=0)
                except Rejected as error:
                    await enriching.fail(work.version_id, work.claim, error)
                    assert await record.enrichments.retry(work.ingestion_id)
                    if error.code == Code.BUDGET_SPENT:
                        return
            work = await begin(record)


@pytest.mark.parametrize(
    "fault",
    [Say("no JSON"), CutConnection(), Body(b"{"), Status(504)],
    ids=["unusable", "cut", "broken", "504"],
)
async def test_no_run_of_a_document_begins_once_its_tokens_are_spent(
    record: Record, model: OpenAIServer, fault: Fault
) -> None:
    model.fail_chats(fault)
    await read_until_spent(record, model, llm_max_tokens_per_document=12_000)
    asked, cost = len(model.chats()), await spent(record)
    assert cost["requests"] == asked
    assert asked > 0
    assert cost["tokens_in"] + cost["tokens_out"] <= 12_000
    async with enricher(record, model, llm_max_tokens_per_document=12_000) as enriching:
        work = await begin(record)
        with pytest.raises(Rejected) as refused:
            await enriching.extract(work.version_id, work.claim)
    assert (refused.value.code, len(model.chats())) == (Code.BUDGET_SPENT, asked)


@pytest.mark.parametrize("limit", [10_000, 12_000, 24_000])
async def test_parts_that_are_asked_about_at_once_cost_no_more_than_the_document_may(
    record: Record, model: OpenAIServer, limit: int
) -> None:
    model.latency_seconds = 0.2
    work = await one_to_read(record, *PARTS)
    async with enricher(record, model, llm_max_tokens_per_document=limit, llm_concurrency=4) as enriching:
        with pytest.raises(Rejected) as refused:
            await enriching.extract(work.version_id, work.claim)
    assert refused.value.code == Code.BUDGET_SPENT
    assert model.tokens_in + model.tokens_out <= limit


async def test_thoughts_that_nobody_sees_cost_no_more_than_the_document_may(
    record: Record, model: OpenAIServer
) -> None:
    model.latency_seconds, model.thought_tokens = 0.2, 25_000
    work = await one_to_read(record, *PARTS)
    async with enricher(record, model, llm_max_tokens_per_document=100_000, llm_concurrency=4) as enriching:
        with pytest.raises(Rejected) as refused:
            await enriching.extract(work.version_id, work.claim)
    assert refused.value.code == Code.BUDGET_SPENT
    assert model.tokens_out > 10_000
    assert model.tokens_in + model.tokens_out <= 100_000


async def test_answers_that_never_came_count_as_long_as_they_might_have_been(
    record: Record, model: OpenAIServer
) -> None:
    model.latency_seconds = 5
    work = await one_to_read(record)
    async with enricher(record, model, llm_timeout_seconds=0.3, llm_thought_tokens=3_000) as enriching:
        with pytest.raises(Unavailable):
            await enriching.extract(work.version_id, work.claim)
    assert (await spent(record))["tokens_out"] > 3_000


async def test_connections_that_are_cut_for_a_while_do_not_use_up_what_a_document_may_cost(
    record: Record, model: OpenAIServer
) -> None:
    model.fail_chats(CutConnection())
    work = await one_to_read(record, *PARTS)
    for _ in range(5):
        async with enricher(record, model, llm_concurrency=4) as enriching:
            with pytest.raises(Unavailable):
                await enriching.extract(work.version_id, work.claim)
    model.fail_chats(None)
    async with enricher(record, model) as enriching:
        assert await enriching.extract(work.version_id, work.claim) is EnrichmentState.RUNNING


async def test_smaller_questions_that_are_not_asked_any_more_are_counted(
    record: Record, model: OpenAIServer
) -> None:
    async with enricher(record, model) as enriching:
        await tell(record, "one", Extraction(), text="Ada Jane Mary Smith works at Initech.", enrich=True)
        await read(enriching, await begin(record))
        text = "Ada Jane M Smith leads Project Falcon."
        await tell(record, "two", Extraction(), text=text, enrich=True, passages=(text, *PARTS[1:3]))
        work = await begin(record)
        await enriching.extract(work.version_id, work.claim)
    cost, asked = await record.enrichments.spent(work.version_id), len(model.chats())
    left = cost["tokens_in"] + cost["tokens_out"] + 50
    async with enricher(record, model, llm_max_tokens_per_document=left) as enriching:
        assert await enriching.publish(work.version_id, work.claim) is EnrichmentState.DONE
    assert len(model.chats()) == asked
    (told,) = await record.ingestions.get([work.ingestion_id])
    (warning,) = present_ingestion(told).warnings
    assert "1 question about names" in warning


@pytest.mark.parametrize(
    "fault", [Refuse(), Say('{"answers": []}'), Say('{"answers": [{"number": 0, "same": "yes"}]}')]
)
async def test_a_smaller_question_that_got_no_answer_is_told_and_asked_again(
    record: Record, model: OpenAIServer, fault: Fault
) -> None:
    async with enricher(record, model) as enriching:
        await tell(record, "one", Extraction(), text="Ada Jane Mary Smith works at Initech.", enrich=True)
        await read(enriching, await begin(record))
        await tell(record, "two", Extraction(), text="Ada Jane M Smith leads Project Falcon.", enrich=True)
        work = await begin(record)
        await enriching.extract(work.version_id, work.claim)
        model.fail_chats(fault)
        assert await enriching.publish(work.version_id, work.claim) is EnrichmentState.DONE
        model.fail_chats(None)
        (told,) = await record.ingestions.get([work.ingestion_id])
        (warning,) = present_ingestion(told).warnings
        assert "1 question about names" in warning
        assert await record.enrichments.retry(work.ingestion_id)
        await read(enriching, await begin(record))
    (told,) = await record.ingestions.get([work.ingestion_id])
    assert present_ingestion(told).warnings == []


async def test_no_run_of_a_document_begins_once_its_time_is_spent(
    record: Record, model: OpenAIServer
) -> None:
    model.latency_seconds = 5
    await read_until_spent(record, model, llm_timeout_seconds=0.3, llm_max_seconds_per_document=0.8)
    assert len(model.chats()) == 3


async def test_a_request_counts_before_it_is_answered_and_what_it_cost_after(
    record: Record, model: OpenAIServer
) -> None:
    model.latency_seconds = 2
    work = await one_to_read(record)
    async with enricher(record, model, llm_timeout_seconds=40) as enriching:
        reading = asyncio.create_task(enriching.extract(work.version_id, work.claim))
        await eventually(model.chats)
        # What a process that is killed now leaves.
        meanwhile = await spent(record)
        assert (meanwhile["requests"], meanwhile["seconds"]) == (1, 40)
        assert meanwhile["tokens_in"] > 1000
        await reading
        after = await spent(record)
        assert (after["requests"], after["tokens_in"], after["tokens_out"]) == (
            1, model.tokens_in, model.tokens_out,
        )  # fmt: skip
        assert 2 <= after["seconds"] < 40


async def test_an_endpoint_that_says_that_it_is_busy_costs_no_tokens(
    record: Record, model: OpenAIServer
) -> None:
    model.fail_next(Status(429), Status(503))
    work = await one_to_read(record)
    async with enricher(record, model) as enriching:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await enriching.extract(work.version_id, work.claim)
    cost = await spent(record)
    assert (cost["requests"], cost["tokens_in"]) == (2, 0)


PARTS = [
    f"Person{letter} Doe works at Company{letter}. {'The herb lovage grows behind the shed. ' * 240}"
    for letter in "ABCDEFGH"
]


@pytest.mark.parametrize("code", ["content_policy_violation", "context_length_exceeded"])
async def test_a_refusal_of_one_part_loses_that_part_only(
    record: Record, model: OpenAIServer, code: str
) -> None:
    # What is too long is asked once more, without a limit of the answer.
    model.fail_next(*[Status(400, code)] * (2 if code == "context_length_exceeded" else 1))
    work = await one_to_read(record, *PARTS)
    async with enricher(record, model, llm_concurrency=1) as enriching:
        assert await read(enriching, work) is EnrichmentState.DONE
        assert (await spent(record))["groups_without_answer"] == 1
    assert len(await look(record, "Company")) >= 5


@pytest.mark.parametrize("asked", ["retry", "want"])
async def test_a_part_that_was_lost_is_asked_about_again_on_request_and_no_other(
    record: Record, model: OpenAIServer, asked: str
) -> None:
    model.fail_next(Status(400, "content_policy_violation"))
    work = await one_to_read(record, *PARTS)
    async with enricher(record, model, llm_concurrency=1) as enriching:
        assert await read(enriching, work) is EnrichmentState.DONE
        before, already = await shown(record), len(model.chats())
        assert len(before) < len(PARTS)
        again = (
            record.enrichments.retry(work.ingestion_id) if asked == "retry" else record.enrichments.want(None)
        )
        assert await again
        assert await shown(record) == before
        assert await read(enriching, await begin(record)) is EnrichmentState.DONE
    assert len(model.chats()) == already + 1
    assert await shown(record) == {(f"Person{one} Doe", "works_at", f"Company{one}") for one in "ABCDEFGH"}
    (told,) = await record.ingestions.get([work.ingestion_id])
    assert present_ingestion(told).warnings == []
    assert not await record.enrichments.retry(work.ingestion_id)
    assert await record.enrichments.want(None) == 0


async def shown(record: Record) -> set[tuple[str, str, str]]:
    views = [view for letter in "ABCDEFGH" for view in await look(record, f"Person{letter} Doe")]
    return {(fact.subject, fact.predicate, fact.object) for view in views for fact in view.facts}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status(400, "content_policy_violation"), Code.MODEL_ANSWER_UNUSABLE),
        (Status(400, "invalid_value"), Code.PROVIDER_REJECTED),
        (Status(401, "invalid_api_key"), Code.PROVIDER_REJECTED),
    ],
)
async def test_what_refuses_every_part_fails_and_says_why(
    record: Record, model: OpenAIServer, status: Status, code: Code
) -> None:
    model.fail_chats(status)
    work = await one_to_read(record, *PARTS)
    async with enricher(record, model, llm_concurrency=1) as enriching:
        with pytest.raises(Rejected) as refused:
            await enriching.extract(work.version_id, work.claim)
    assert refused.value.code == code
    assert status.code in refused.value.message
    assert ("APEX_OPENAI_BASE_URL" in refused.value.next_step) == (status.code == "invalid_value")
    groups = len(model.chats())
    assert groups == {"invalid_api_key": 1, "invalid_value": 18}.get(status.code, groups)
