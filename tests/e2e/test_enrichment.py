"""Entities and facts by a model: whatever it does, text is searchable at once, and a graph is there as a whole or not at all."""

from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import pytest

from apex_mcp.app import App
from apex_mcp.errors import Code, Conflict
from apex_mcp.models import EnrichmentState
from apex_mcp.views import IngestionView
from apex_worker.enrichment import FLIGHTS
from tests.doubles.chat_model import Spoiling
from tests.doubles.openai_server import Body, CutConnection, Fault, OpenAIServer, Refuse, Say, Spoil, Status
from tests.e2e.apps import CALLER, app_without_worker, remember, working
from tests.e2e.enriching import asking, enriched, enriching_app, entity, facts, look, until
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

TEXT = (
    "Jane Doe joined Initech in May 2023. Initech is headquartered in Austin. Jane Doe leads Project Falcon."
)
FOUND = {("works_at", "Initech"), ("leads", "Project Falcon")}
PLAIN = "the herb lovage grows behind the shed, where nobody looks for it. "
DONE, FAILED, PENDING = EnrichmentState.DONE, EnrichmentState.FAILED, EnrichmentState.PENDING


@pytest.fixture(scope="module")
def model() -> Generator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(scope="module")
async def app(anyio_backend: str, model: OpenAIServer) -> AsyncGenerator[App]:
    with TemporaryDirectory(prefix="apex") as folder:
        async with enriching_app(Path(folder) / "home", model) as app:
            yield app


@pytest.fixture(autouse=True)
def well(model: OpenAIServer) -> Generator[None]:
    yield
    model.fail_chats(None)
    model.latency_seconds = 0


def long_text(parts: int) -> str:
    """A text that goes to the model in several requests, with a statement in each of its parts."""
    return "\n\n".join(
        f"Person{letter} Doe works at Company{letter}. {PLAIN * 55}" for letter in "ABCDEFGHIJ"[:parts]
    )


async def found(app: App, query: str, namespace: str) -> int:
    return len((await app.memory.search(CALLER, query=query, namespace=namespace)).hits)


async def by_rules_only(app: App, view: IngestionView) -> bool:
    """Whether nothing of the model is to be seen."""
    shown = await entity(app, "Jane Doe", view.namespace)
    return shown is None or all(fact.predicate != "leads" for fact in shown.facts)


async def test_text_is_searchable_while_the_model_thinks(app: App, model: OpenAIServer) -> None:
    model.latency_seconds = 3
    view = await remember(app, TEXT, namespace="slow")
    assert view.enrichment in (PENDING, EnrichmentState.RUNNING)
    assert await found(app, "headquartered", "slow") == 1
    assert await by_rules_only(app, view)
    await until(app, view, DONE)
    assert await facts(app, "Jane Doe", "slow") >= FOUND


async def test_text_goes_on_while_all_places_wait_for_the_model(app: App, model: OpenAIServer) -> None:
    model.latency_seconds = 10
    already = len(model.chats())
    notes = [
        await remember(app, f"Person{letter} Doe works at Initech.", namespace="busy") for letter in "ABCDEF"
    ]
    await eventually(lambda: len(model.chats()) - already >= FLIGHTS)
    large = await remember(app, PLAIN * 2_000, namespace="busy")
    assert await found(app, "lovage", "busy") > 0
    states = [(await look(app, view)).enrichment for view in notes]
    assert EnrichmentState.DONE not in states
    model.latency_seconds = 0
    for view in (*notes, large):
        await until(app, view, DONE)


async def test_everything_has_an_id_a_type_a_predicate_and_a_source(app: App) -> None:
    view = await enriched(app, TEXT, namespace="whole")
    shown = (await app.memory.get_entities(CALLER, namespace="whole", limit=50)).entities
    types = {one.name: one.type for one in shown}
    assert (types["Jane Doe"], types["Project Falcon"]) == ("Person", "Project")
    assert (types["Initech"], types["Austin"]) == ("Organization", "Place")
    assert len({one.entity_id for one in shown}) == len(shown)
    stated = [fact for one in shown for fact in one.facts]
    assert {fact.predicate for fact in stated} >= {"works_at", "leads", "headquartered_in"}
    assert {source.document_id for fact in stated for source in fact.sources} == {view.document_id}
    since = {fact.valid_at for fact in stated if fact.predicate == "works_at"}
    assert datetime(2023, 5, 1, tzinfo=UTC) in since


@pytest.mark.parametrize(
    "fault",
    [
        Status(429, "rate_limit_exceeded", "1"),
        Status(500),
        Status(503),
        CutConnection(),
        Body(b'{"error": {"message": "slow down", "code": 429}}', retry_after="1"),
    ],
    ids=["429", "500", "503", "cut", "within"],
)
async def test_a_model_that_fails_for_a_while_is_asked_again(
    app: App, model: OpenAIServer, fault: Fault, request: pytest.FixtureRequest
) -> None:
    namespace = f"while-{request.node.callspec.id}"
    model.fail_next(fault, fault, path="/chat/completions")
    view = await remember(app, TEXT, namespace=namespace)
    assert await found(app, "headquartered", namespace) == 1
    await until(app, view, DONE)
    assert await facts(app, "Jane Doe", namespace) >= FOUND


async def test_a_model_that_is_away_for_long_is_waited_for_and_says_so(app: App, model: OpenAIServer) -> None:
    model.fail_chats(Status(503))
    view = await remember(app, TEXT, namespace="away")

    async def explained() -> bool:
        now = await look(app, view)
        return now.enrichment_failure is not None and now.enrichment_failure.code == Code.MODEL_UNAVAILABLE

    await eventually(explained)
    await until(app, view, PENDING)
    assert await by_rules_only(app, view)
    stats = await app.memory.get_stats(CALLER)
    assert {store.name: store.state for store in stats.stores}["model"] == "down"
    model.fail_chats(None)
    await until(app, view, DONE)
    assert await facts(app, "Jane Doe", "away") >= FOUND


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Status(401, "invalid_api_key"), Code.PROVIDER_REJECTED),
        (Refuse(), Code.MODEL_ANSWER_UNUSABLE),
        (Say("Certainly! Here are the"), Code.MODEL_ANSWER_UNUSABLE),
        (Say('{"extracted_entities": [{"na', "length"), Code.MODEL_ANSWER_UNUSABLE),
        (Body(b"<html>bad gateway</html>"), None),
    ],
    ids=["key", "refusal", "no-json", "cut-json", "no-api"],
)
async def test_a_model_that_does_not_answer_leaves_the_text_and_is_asked_again_on_request(
    app: App, model: OpenAIServer, fault: Fault, code: Code | None, request: pytest.FixtureRequest
) -> None:
    namespace = f"never-{request.node.callspec.id}"
    model.fail_chats(fault)
    view = await remember(app, TEXT, namespace=namespace)
    assert await found(app, "headquartered", namespace) == 1
    if code is not None:
        failed = await until(app, view, FAILED)
        assert failed.state == "ready"
        assert failed.enrichment_failure is not None
        assert failed.enrichment_failure.code == code
        assert await by_rules_only(app, view)
    model.fail_chats(None)
    if code is not None:
        await app.memory.retry_ingestion(CALLER, ingestion_id=view.ingestion_id)
    await until(app, view, DONE)
    assert await facts(app, "Jane Doe", namespace) >= FOUND


@pytest.mark.parametrize("how", get_args(Spoiling))
async def test_a_careless_answer_loses_what_is_wrong_with_it_and_no_more(
    app: App, model: OpenAIServer, how: Spoiling
) -> None:
    namespace = f"spoilt-{how.replace('_', '-')}"
    model.fail_chats(Spoil(how))
    await enriched(app, TEXT, namespace=namespace)
    shown = (await app.memory.get_entities(CALLER, namespace=namespace, limit=50)).entities
    assert all(one.name and one.type for one in shown)
    assert all(fact.predicate and fact.object and fact.sources for one in shown for fact in one.facts)
    assert await facts(app, "Jane Doe", namespace) >= FOUND


async def test_a_finished_enrichment_is_not_retried(app: App) -> None:
    view = await enriched(app, TEXT, namespace="finished")
    with pytest.raises(Conflict) as caught:
        await app.memory.retry_ingestion(CALLER, ingestion_id=view.ingestion_id)
    assert caught.value.code == Code.NOT_RETRYABLE
    assert "the model has read it" in caught.value.message


async def test_an_enrichment_that_is_on_its_way_is_answered_as_it_is(app: App, model: OpenAIServer) -> None:
    model.latency_seconds = 2
    view = await remember(app, TEXT, namespace="on-its-way")
    again = await app.memory.retry_ingestion(CALLER, ingestion_id=view.ingestion_id)
    assert again.enrichment in (PENDING, EnrichmentState.RUNNING)
    await until(app, view, DONE)


async def test_what_a_later_version_replaced_is_not_published(app: App, model: OpenAIServer) -> None:
    model.latency_seconds = 2
    first = await remember(app, TEXT, namespace="later", key="note")
    await eventually(lambda: model.chats())
    second = await remember(app, "Jane Doe joined Globex in 2024.", namespace="later", key="note")
    model.latency_seconds = 0
    await until(app, second, DONE)
    await until(app, first, EnrichmentState.SUPERSEDED)
    assert await facts(app, "Jane Doe", "later") == {("works_at", "Globex")}


async def test_the_same_passages_are_not_asked_about_again(app: App, model: OpenAIServer) -> None:
    text = long_text(10)
    already = len(model.chats())
    await enriched(app, text, namespace="again", key="note")
    asked = len(model.chats())
    assert asked - already >= 4
    await enriched(app, f"{text}\n\nLast Person works at Last Company.", namespace="again", key="note")
    assert len(model.chats()) - asked <= 2
    assert ("works_at", "CompanyA") in await facts(app, "PersonA Doe", "again")
    assert ("works_at", "CompanyJ") in await facts(app, "PersonJ Doe", "again")


async def test_what_two_ask_at_once_is_asked_once(app: App, model: OpenAIServer) -> None:
    already = len(model.chats())
    model.latency_seconds = 2
    views = [await remember(app, TEXT, namespace="twice", title="Note", key=key) for key in ("a", "b")]
    for view in views:
        await until(app, view, DONE)
    passages = [one for one in model.chats()[already:] if one.body["model"] == "gpt-5-mini"]
    assert len(passages) == 1
    shown = await entity(app, "Jane Doe", "twice")
    assert shown is not None
    assert len(shown.sources) == 2


async def test_reindexing_asks_nothing_and_loses_nothing(app: App, model: OpenAIServer) -> None:
    await enriched(app, TEXT, namespace="reindexed")
    before = await app.memory.get_entities(CALLER, namespace="reindexed", limit=50)
    asked = len(model.chats())
    async for _ in app.memory.reindex(CALLER):
        pass
    assert await app.memory.get_entities(CALLER, namespace="reindexed", limit=50) == before
    assert await found(app, "headquartered", "reindexed") == 1
    assert len(model.chats()) == asked


async def test_two_spellings_are_one_with_both_sources(app: App) -> None:
    one = await enriched(app, "ACME Corp. partnered with Bosch Technologies.", namespace="acme")
    other = await enriched(app, "ACME Corporation is headquartered in Austin.", namespace="acme")
    shown = await entity(app, "ACME Corporation", "acme")
    assert shown is not None
    assert {source.document_id for source in shown.sources} == {one.document_id, other.document_id}
    assert {(fact.predicate, fact.object) for fact in shown.facts} >= {
        ("partnered_with", "Bosch Technologies"), ("headquartered_in", "Austin"),
    }  # fmt: skip


async def test_a_fact_that_a_later_text_ends_is_past(app: App, model: OpenAIServer) -> None:
    await enriched(app, "Jane Doe works at Initech.", namespace="ended")
    assert await facts(app, "Jane Doe", "ended") == {("works_at", "Initech")}
    await enriched(app, "Jane Doe left Initech in May 2024.", namespace="ended")
    shown = await entity(app, "Jane Doe", "ended")
    assert shown is not None
    (past,) = [fact for fact in shown.facts if fact.predicate == "works_at"]
    # Neither text has a date of its own: the end is the day that is told, not that of the ingestion.
    assert (past.current, past.invalid_at) == (False, datetime(2024, 5, 1, tzinfo=UTC))
    clashes = [
        words for chat in model.chats() if "<CLASHES>" in (words := chat.body["messages"][1]["content"])
    ]
    assert '"older": ["Jane Doe works at Initech."]' in clashes[-1]
    # Asked about once: the same statement in another document finds the answer.
    asked = len(model.chats())
    await enriched(app, "As everybody knows, Jane Doe left Initech in May 2024.", namespace="ended")
    assert len(model.chats()) == asked + 1


@pytest.mark.parametrize("order", [("older", "newer"), ("newer", "older")], ids=["in-order", "late"])
async def test_a_fact_ends_when_the_text_says_whichever_comes_first(
    app: App, order: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    namespace = f"dated-{request.node.callspec.id}"
    texts = {
        "older": ("Jane Doe works at Initech.", datetime(2023, 1, 1, tzinfo=UTC)),
        "newer": ("Jane Doe left Initech in May 2024.", datetime(2024, 6, 1, tzinfo=UTC)),
    }
    for which in order:
        text, dated = texts[which]
        await enriched(app, text, namespace=namespace, document_time=dated)
    shown = await entity(app, "Jane Doe", namespace)
    assert shown is not None
    (past,) = [fact for fact in shown.facts if fact.predicate == "works_at"]
    assert (past.current, past.invalid_at) == (False, datetime(2024, 5, 1, tzinfo=UTC))


async def test_only_doubtful_names_are_asked_about_and_only_once(model: OpenAIServer) -> None:
    """The double's likeness of names is the share of their words."""
    with TemporaryDirectory(prefix="apex") as folder:
        async with enriching_app(Path(folder) / "home", model, embedder="openai") as app:

            async def embedder_is_ready() -> bool:
                stores = (await app.memory.get_stats(CALLER)).stores
                return {store.name: store.state for store in stores}["embedder"] == "ok"

            async def questions(text: str) -> int:
                already = len(model.chats())
                await enriched(app, text)
                return len([one for one in model.chats()[already:] if one.body["model"] == "gpt-5-nano"])

            await eventually(embedder_is_ready)
            assert await questions("Ada Jane Mary Smith works at Initech.") == 0
            assert await questions("Ada Jane M Smith leads Project Falcon.") == 1
            assert await facts(app, "Ada Jane Mary Smith", "default") == {
                ("works_at", "Initech"), ("leads", "Project Falcon"),
            }  # fmt: skip
            assert await questions("Ada Jane M Smith lives in Paris.") == 0
            assert await questions("Ada Jane Kay Smith works at Globex.") == 1
            assert await facts(app, "Ada Jane Kay Smith", "default") == {("works_at", "Globex")}
            assert await questions("Ada Jane Kay Smith lives in Rome.") == 0
            assert await questions("Bob Jane Mary Jones lives in Rome.") == 0


async def test_a_document_costs_no_more_than_its_budget_and_goes_on_where_it_was(model: OpenAIServer) -> None:
    with TemporaryDirectory(prefix="apex") as folder:
        home = Path(folder) / "home"
        # Enough for the questions, were it not that one of them is asked twice.
        model.fail_next(Say("Certainly!"), path="/chat/completions")
        limit = {"llm_max_tokens_per_document": 40_000, "llm_concurrency": 1}
        already = len(model.chats())
        async with enriching_app(home, model, **limit) as app:
            view = await remember(app, long_text(10))
            failed = await until(app, view, FAILED)
            assert failed.enrichment_failure is not None
            assert failed.enrichment_failure.code == Code.BUDGET_SPENT
            asked = len(model.chats()) - already
            assert asked >= 1
            assert await facts(app, "PersonA Doe", "default") == set()
            assert await found(app, "PersonJ", "default") == 1
            # Without a higher limit nothing is asked.
            await app.memory.retry_ingestion(CALLER, ingestion_id=view.ingestion_id)
            await until(app, view, FAILED)
            assert len(model.chats()) - already == asked
        async with enriching_app(home, model) as app:
            await app.memory.retry_ingestion(CALLER, ingestion_id=view.ingestion_id)
            await until(app, view, DONE)
            bodies = [str(request.body["messages"]) for request in model.chats()[already:]]
            assert len(set(bodies)) == len(bodies) - 1, "no group was asked about again"
            for letter in "ABCDEFGHIJ":
                assert ("works_at", f"Company{letter}") in await facts(app, f"Person{letter} Doe", "default")


async def test_the_longest_time_that_may_be_set_can_be_counted(model: OpenAIServer) -> None:
    century = 36_500 * 86_400
    with TemporaryDirectory(prefix="apex") as folder:
        longest = {"llm_max_seconds_per_document": century, "llm_timeout_seconds": century}
        async with enriching_app(Path(folder) / "home", model, **longest) as app:
            await enriched(app, TEXT)


async def test_parts_without_a_usable_answer_are_told_and_paid_for(model: OpenAIServer) -> None:
    with TemporaryDirectory(prefix="apex") as folder:
        async with enriching_app(Path(folder) / "home", model, llm_concurrency=1) as app:
            already, nonsense = len(model.chats()), Say("Certainly! Here are the")
            model.fail_next(nonsense, nonsense, path="/chat/completions")
            view = await enriched(app, long_text(10))
            (warning,) = view.warnings
            assert "no usable answer about 1 of " in warning
            assert "retry_ingestion asks about these again" in warning
            paid = await app.record.database.fetch_one("SELECT usage FROM enrichments")
            assert paid is not None
            assert paid["usage"]["requests"] == len(model.chats()) - already
            asked = len(model.chats())
            await app.memory.retry_ingestion(CALLER, ingestion_id=view.ingestion_id)
            view = await until(app, view, DONE)
            assert (view.warnings, len(model.chats())) == ([], asked + 1)


async def test_what_waits_for_a_model_says_that_none_is_set_and_keeps_nothing_up(model: OpenAIServer) -> None:
    with TemporaryDirectory(prefix="apex") as folder:
        home = Path(folder) / "home"
        model.fail_chats(Status(503))
        async with enriching_app(home, model) as app:
            view = await remember(app, TEXT)
            await until(app, view, PENDING)
            assert await app.busy()
        async with app_without_worker(home) as app, working(app):
            waiting = await until(app, view, PENDING)
            assert waiting.state == "ready"
            assert waiting.enrichment_failure is not None
            assert "APEX_LLM=none" in waiting.enrichment_failure.message
            assert not await app.busy()
        model.fail_chats(None)
        async with enriching_app(home, model) as app:
            await until(app, view, DONE)


async def test_a_process_that_only_serves_loads_nothing_of_the_model_and_says_where_texts_go(
    model: OpenAIServer,
) -> None:
    with TemporaryDirectory(prefix="apex") as folder:
        async with app_without_worker(Path(folder) / "home", serving=True, **asking(model)) as app:
            assert (app.extractor, app.enricher) == (None, None)
            stores = (await app.memory.get_stats(CALLER)).stores
            (detail,) = [store.detail for store in stores if store.name == "model"]
            assert "texts of documents go to gpt-5-mini at 127.0.0.1" in detail


async def test_what_was_stored_before_a_model_was_set_is_read_when_asked_for(model: OpenAIServer) -> None:
    with TemporaryDirectory(prefix="apex") as folder:
        home = Path(folder) / "home"
        async with app_without_worker(home) as app, working(app):
            view = await remember(app, TEXT)
            assert view.enrichment == EnrichmentState.NONE
            with pytest.raises(Exception, match="APEX_LLM"):
                [one async for one in app.memory.enrich(CALLER)]
        model.fail_chats(Status(401, "invalid_api_key"))
        async with app_without_worker(home, **asking(model)) as app, working(app):
            seen = [one async for one in app.memory.enrich(CALLER)]
            assert (seen[-1].waiting, seen[-1].done, seen[-1].failed) == (0, 0, 1)
            model.fail_chats(None)
            assert await by_rules_only(app, view)
            seen = [one async for one in app.memory.enrich(CALLER)]
            assert (seen[-1].waiting, seen[-1].done, seen[-1].failed) == (0, 1, 0)
            assert await facts(app, "Jane Doe", "default") >= FOUND


async def test_of_an_entity_that_is_forgotten_no_answer_of_the_model_tells(app: App) -> None:
    await enriched(app, TEXT, namespace="forgetting")
    assert await answered(app, "forgetting", "Project Falcon") == 1
    falcon = await entity(app, "Project Falcon", "forgetting")
    assert falcon is not None
    await app.memory.forget(CALLER, entity_id=falcon.entity_id, namespace="forgetting", confirm=True)
    assert await answered(app, "forgetting", "Project Falcon") == 0
    assert await answered(app, "forgetting", "Initech") == 1


async def answered(app: App, namespace: str, words: str) -> int:
    """How many answers of the model hold these words."""
    return len(
        await app.record.database.fetch_all(
            "SELECT 1 FROM model_answers WHERE namespace = %s AND position(%s in answer::text) > 0",
            (namespace, words),
        )
    )
