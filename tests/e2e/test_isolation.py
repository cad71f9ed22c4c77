"""What is stored elsewhere, or was true before, changes no answer; and each ingestion ends as it should."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import pytest

from apex_mcp.app import App
from apex_mcp.batches import batches
from apex_mcp.errors import Code, Conflict
from apex_mcp.ingestion.contract import RollbackInput, StepInput
from apex_mcp.models import EntityInput, IndexFilter, IngestionState, Lane
from tests.e2e.apps import CALLER, app_without_worker, ended, remember, working
from tests.ingestion.documents import make_docx

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def app(anyio_backend: str) -> AsyncGenerator[App]:
    with TemporaryDirectory(prefix="apex") as folder:
        async with app_without_worker(Path(folder) / "home") as opened:
            yield opened


@pytest.fixture
async def worker(app: App) -> AsyncGenerator[None]:
    async with working(app):
        yield


@pytest.fixture
def namespace() -> str:
    """A memory of the test's own."""
    return f"n{uuid4().hex}"


async def texts(app: App, query: str, namespace: str, **more: Any) -> list[str]:
    found = await app.memory.search(CALLER, query=query, namespace=namespace, **more)
    assert found.degraded == []
    return [hit.text for hit in found.hits]


async def remember_all(app: App, notes: list[str], namespace: str) -> None:
    accepted = [
        view
        for some in batches(notes, 100)
        for view in await asyncio.gather(*[
            app.memory.add_memory(CALLER, text=text, namespace=namespace) for text in some
        ])
    ]
    assert {view.state for view in await ended(app, accepted)} == {IngestionState.READY}


async def score(app: App, word: str, namespace: str) -> float:
    """The score of the only note that has the word, as the index itself gives it."""
    (only,) = await app.vectors.search_words(word, IndexFilter(namespace=namespace), limit=10)
    return round(only.score, 3)


@pytest.mark.usefixtures("worker")
async def test_a_rare_word_weighs_the_same_whatever_another_namespace_stores(
    app: App, namespace: str
) -> None:
    await remember(app, "The harbour master grows lovage.", namespace=namespace)
    await remember_all(app, [f"The harbour master paints boat {number}." for number in range(20)], namespace)
    before = await score(app, "lovage", namespace)
    await remember_all(
        app, [f"Lovage again, number {number}." for number in range(1000)], f"{namespace}-other"
    )
    assert await score(app, "lovage", namespace) == before
    assert await texts(app, "lovage", namespace) == ["The harbour master grows lovage."]


@pytest.mark.usefixtures("worker")
async def test_retired_versions_crowd_nothing_out_and_weigh_nothing(app: App, namespace: str) -> None:
    current = [f"Ferry {number} leaves from the lovage pier." for number in range(4)]
    await remember_all(app, current, namespace)
    changing = "The lovage lovage lovage price is {} crowns."
    await remember(app, changing.format(0), namespace=namespace, key="price")
    before = await app.vectors.search_words("lovage", IndexFilter(namespace=namespace), limit=10)
    for number in range(1, 61):
        await app.memory.add_memory(CALLER, text=changing.format(number), namespace=namespace, key="price")
    last = await remember(app, changing.format(61), namespace=namespace, key="price")
    assert last.version == 62
    assert sorted(await texts(app, "lovage", namespace, limit=5)) == sorted([*current, changing.format(61)])
    after = await app.vectors.search_words("lovage", IndexFilter(namespace=namespace), limit=10)
    assert [round(one.score, 3) for one in after] == [round(one.score, 3) for one in before]


@pytest.mark.usefixtures("worker")
async def test_known_at_shows_what_was_known_then(app: App, namespace: str) -> None:
    unknown = datetime.now(UTC)
    first = await remember(app, "The office is in Ostmere.", namespace=namespace, key="office")
    then = await app.memory.get_ingestion(CALLER, ingestion_id=first.ingestion_id)
    assert then.finished_at is not None
    known = datetime.now(UTC)
    await remember(app, "The office is in Westmere.", namespace=namespace, key="office")
    await remember(app, "The office has a harbour view.", namespace=namespace)
    assert await texts(app, "office", namespace, known_at=unknown) == []
    assert await texts(app, "office", namespace, known_at=known) == ["The office is in Ostmere."]
    assert sorted(await texts(app, "office", namespace)) == [
        "The office has a harbour view.",
        "The office is in Westmere.",
    ]


@pytest.mark.usefixtures("worker")
async def test_as_of_leaves_out_what_is_dated_later(app: App, namespace: str) -> None:
    old, new = datetime(2020, 5, 1, tzinfo=UTC), datetime(2024, 5, 1, tzinfo=UTC)
    herb = [EntityInput(name="Lovage", type="herb", aliases=())]
    await remember(app, "Ann led the lovage project.", namespace=namespace, document_time=old, entities=herb)
    await remember(
        app, "Bob leads the lovage project.", namespace=namespace, document_time=new, entities=herb
    )
    between = datetime(2022, 1, 1, tzinfo=UTC)
    assert await texts(app, "lovage", namespace, as_of=between) == ["Ann led the lovage project."]
    for as_of, times in ((between, [old]), (None, [new, old])):
        found = await app.memory.get_entities(CALLER, query="Lovage", namespace=namespace, as_of=as_of)
        assert [[source.document_time for source in entity.sources] for entity in found.entities] == [times]
    assert len(await texts(app, "lovage", namespace)) == 2


async def test_a_cancelled_member_leaves_its_group_and_the_others_become_searchable(
    app: App, namespace: str
) -> None:
    step = await _claimed(app, namespace, *[f"Lovage note {number}." for number in range(3)])
    assert (await app.steps.prepare_group(step)).going_on == step.ingestion_ids
    await _cancel(app, step.ingestion_ids[1])
    assert (await app.steps.write(step)).ended == {step.ingestion_ids[1]: Code.CANCELLED}
    await _roll_back(app, step, step.ingestion_ids[1])
    views = await app.memory.get_ingestions(CALLER, ingestion_ids=[UUID(one) for one in step.ingestion_ids])
    assert [view.state for view in views] == ["ready", "cancelled", "ready"]
    assert sorted(await texts(app, "lovage", namespace)) == ["Lovage note 0.", "Lovage note 2."]


async def test_a_run_that_lost_its_ingestion_leaves_what_is_staged_to_the_next_one(
    app: App, namespace: str, tmp_path: Path
) -> None:
    path = tmp_path / "note.docx"
    path.write_bytes(make_docx([("", "The herb lovage.")]))
    view = await _file(app, path, namespace)
    claim, _ = await app.record.outbox.claim(
        owner="test", lane=Lane.OWN, bulk=False, limit=1, lease_seconds=600
    )
    step = StepInput(ingestion_ids=[str(view.ingestion_id)], claim=str(claim))
    assert (await app.steps.parse(step)).going_on == step.ingestion_ids
    assert await app.record.outbox.release([view.ingestion_id], claim=claim)
    await app.steps.cleanup(step)
    assert await app.staging.get(view.ingestion_id, "raw")
    async with working(app):
        (done,) = await ended(app, [view])
    assert done.state is IngestionState.READY
    await app.steps.cleanup(step)
    assert await app.staging.get(view.ingestion_id, "raw") is None


async def test_an_ingestion_that_was_cancelled_while_it_ran_can_be_retried(app: App, namespace: str) -> None:
    step = await _claimed(app, namespace, "Lovage after all.")
    (ingestion,) = step.ingestion_ids
    await _cancel(app, ingestion)
    assert (await app.steps.prepare_group(step)).ended == {ingestion: Code.CANCELLED}
    await _roll_back(app, step, ingestion)
    again = await app.memory.retry_ingestion(CALLER, ingestion_id=UUID(ingestion))
    async with working(app):
        (view,) = await ended(app, [again])
    assert view.state is IngestionState.READY
    assert await texts(app, "lovage", namespace) == ["Lovage after all."]


@pytest.mark.usefixtures("worker")
async def test_a_failed_file_is_mended_and_retried(app: App, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"plan": \n', "utf-8")
    failed = (await ended(app, [await _file(app, path, namespace)]))[0]
    assert failed.failure is not None
    assert (failed.state, failed.failure.code) == (IngestionState.ROLLED_BACK, Code.MALFORMED)
    path.write_text('{"plan": "grow lovage"}', "utf-8")
    (view,) = await ended(app, [await app.memory.retry_ingestion(CALLER, ingestion_id=failed.ingestion_id)])
    assert (view.state, view.version) == (IngestionState.READY, 1)
    assert len(await texts(app, "lovage", namespace)) == 1
    with pytest.raises(Conflict) as caught:
        await app.memory.retry_ingestion(CALLER, ingestion_id=failed.ingestion_id)
    assert caught.value.code is Code.NOT_RETRYABLE


@pytest.mark.usefixtures("worker")
async def test_the_same_again_is_unchanged(app: App, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "note.md"
    path.write_text("Lovage is a herb.", "utf-8")
    for make in (
        lambda: _file(app, path, namespace),
        lambda: app.memory.add_memory(CALLER, text="Borage is a herb.", namespace=namespace),
    ):
        (first,) = await ended(app, [await make()])
        path.touch()
        (second,) = await ended(app, [await make()])
        assert (first.state, second.state) == (IngestionState.READY, IngestionState.UNCHANGED)
        assert second.document_id == first.document_id
    assert (await app.memory.get_stats(CALLER, namespace=namespace)).versions == 2


@pytest.mark.usefixtures("worker")
async def test_an_idempotency_key_names_one_ingestion_for_ever(app: App, namespace: str) -> None:
    first = await remember(app, "Lovage once.", namespace=namespace, idempotency_key="import-1")
    again = await app.memory.add_memory(
        CALLER, text="Lovage once.", namespace=namespace, idempotency_key="import-1"
    )
    with pytest.raises(Conflict) as caught:
        await app.memory.add_memory(
            CALLER, text="Lovage twice.", namespace=namespace, idempotency_key="import-1"
        )
    assert caught.value.code is Code.IDEMPOTENCY_KEY_REUSED
    at_once = await asyncio.gather(*[
        app.memory.add_memory(CALLER, text="Borage.", namespace=namespace, idempotency_key="import-2")
        for _ in range(10)
    ])
    assert (again.ingestion_id, again.state) == (first.ingestion_id, IngestionState.READY)
    assert len({view.ingestion_id for view in at_once}) == 1
    await ended(app, at_once)
    assert (await app.memory.get_stats(CALLER, namespace=namespace)).documents == 2


@pytest.mark.usefixtures("worker")
async def test_of_versions_that_race_the_later_accepted_stands(
    app: App, namespace: str, tmp_path: Path
) -> None:
    """The earlier one is slower: it goes through every step by itself, the later ones in a group."""
    slow = tmp_path / "price.csv"
    slow.write_text("name,price\n" + "lovage,1\n" * 30_000, "utf-8")
    for round_ in range(3):
        key = f"price-{round_}"
        accepted = [await app.memory.ingest_document(CALLER, source=str(slow), key=key, namespace=namespace)]
        accepted += [
            await app.memory.add_memory(
                CALLER, text=f"The price is {number} crowns.", key=key, namespace=namespace
            )
            for number in range(5)
        ]
        views = await ended(app, accepted)
        assert views[-1].state is IngestionState.READY
        assert all(view.state in (IngestionState.READY, IngestionState.SUPERSEDED) for view in views)
        current = await app.memory.get_document(CALLER, key=key, namespace=namespace)
        assert current.text == "The price is 4 crowns."
        assert [version.current for version in current.versions].count(True) == 1


async def _file(app: App, path: Path, namespace: str) -> Any:
    return await app.memory.ingest_document(CALLER, source=str(path), namespace=namespace)


async def _claimed(app: App, namespace: str, *notes: str) -> StepInput:
    """A group of notes as a dispatcher would have claimed it."""
    for text in notes:
        await app.memory.add_memory(CALLER, text=text, namespace=namespace)
    claim, claimed = await app.record.outbox.claim(
        owner="test", lane=Lane.FAST, bulk=False, limit=64, lease_seconds=600
    )
    assert len(claimed) == len(notes)
    return StepInput(ingestion_ids=[str(one.id) for one in claimed], claim=str(claim))


async def _cancel(app: App, ingestion_id: str) -> None:
    await app.memory.cancel_ingestion(CALLER, ingestion_id=UUID(ingestion_id))


async def _roll_back(app: App, step: StepInput, ingestion_id: str) -> None:
    await app.steps.rollback(RollbackInput(ingestion_id=ingestion_id, claim=step.claim, code=Code.CANCELLED))
