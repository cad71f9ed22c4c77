"""A word that is planted wherever something can go wrong is nowhere once all of it is forgotten, and was never in a workflow."""

import base64
import logging
import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory

from apex_mcp.app import App
from apex_mcp.errors import ApexError, InputError
from apex_mcp.models import EnrichmentState, EntityInput, FactInput, IndexFilter
from apex_mcp.runtime.maintaining import maintain
from apex_mcp.stores.cache.process import ProcessCache
from tests.doubles.openai_server import OpenAIServer, Status
from tests.e2e.apps import CALLER, app_without_worker, ended, remember, working
from tests.e2e.enriching import asking, until
from tests.e2e.sabotage import MARK, sabotage
from tests.ingestion.documents import make_docx
from tests.record.leftovers import tables_with
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

CANARY = "zxcanary7d1f"
TEXT = f"Jane {CANARY} joined {CANARY} Corp. in May 2023. {CANARY} Corp. is headquartered in Austin."
# So long that it is kept out of line, and such that it cannot be compressed.
LONG = f"{base64.b64encode(random.Random(7).randbytes(20_000)).decode()} {CANARY}"


async def test_what_was_planted_everywhere_is_nowhere_once_it_is_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    sabotage(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    home = tmp_path / "home"
    with OpenAIServer() as model:
        async with app_without_worker(home, **asking(model, embedder="openai")) as app:
            assert isinstance(app.shared.cache, ProcessCache)
            async with working(app):
                await remember(app, "plain words", key="kept")
                await _embedded(app)
                vectors = _of_passages(app.shared.cache)
                said = await _plant(app, model, tmp_path)
            assert _of_passages(app.shared.cache) > vectors
            await _plant_what_waits(app)
            assert await tables_with(app.record, CANARY) != []
            await _write_to_files(app)
            held = {path.relative_to(home).parts[0] for path in _files_with(home)}
            assert held == {"postgres", "staging", "vectors"}
            assert _files_with(home / "postgres" / "base") != []
            assert _files_with(home / "postgres" / "pg_wal") != []
            assert [one for one in said if CANARY in one] == []
            done = await app.memory.forget(CALLER, whole_namespace=True, namespace=CANARY, confirm=True)
            assert done.removed
            assert await tables_with(app.record, CANARY) == []
            assert await app.vectors.search_words(CANARY, IndexFilter(namespace=CANARY), limit=10) == []
            stats = await app.memory.get_stats(CALLER)
            listed = await app.memory.list_ingestions(CALLER)
            assert CANARY not in stats.model_dump_json() + listed.model_dump_json()
            assert CANARY not in repr(app.steps._drafts._kept)
            assert _of_passages(app.shared.cache) == vectors
            histories = [one async for one in app.temporal_client.list_workflows().map_histories()]
            assert len(histories) > 3
            assert [one.workflow_id for one in histories if _holds(one)] == []
            # Files are rid of it by their own deadline, or when that is asked for.
            await _write_to_files(app)
            assert _files_with(home) != []
            async with working(app):
                maintained = await maintain(app.temporal_client, app.task_queue, erase=True)
            assert maintained["erased"] == 1
            assert _files_with(home) == []
    assert _files_with(home) == []
    assert CANARY not in caplog.text


async def _plant(app: App, model: OpenAIServer, folder: Path) -> list[str]:
    """Sources that fail and that do not; what errors said of the failing ones."""
    model.fail_next(*[Status(500, message=CANARY)] * 3, path="/embeddings")
    model.fail_chats(Status(401, "invalid_api_key", message=CANARY))
    said: list[str] = []
    broken = {"pdf": b"%PDF-1.7\n" + CANARY.encode(), "docx": make_docx([("", CANARY)])[:200]}
    broken["md"] = f"{MARK} {CANARY}".encode()
    for suffix, content in broken.items():
        path = folder / f"{CANARY}.{suffix}"
        path.write_bytes(content)
        (view,) = await ended(
            app, [await app.memory.ingest_document(CALLER, source=str(path), namespace=CANARY)]
        )
        assert view.failure is not None
        said.append(view.failure.model_dump_json())
    for source in (f"https://{CANARY}.example/{CANARY}", str(folder / f"no-{CANARY}-here.txt")):
        with pytest.raises(InputError) as caught:
            await app.memory.ingest_document(CALLER, source=source, namespace=CANARY)
        said.append(_without_path(caught.value))
    view = await remember(
        app,
        TEXT,
        namespace=CANARY,
        key=f"{CANARY}/key",
        title=f"About {CANARY}",
        metadata={CANARY: CANARY},
        entities=[EntityInput(name=f"{CANARY} Corp.", type="Organization", aliases=(f"The {CANARY}",))],
        facts=[FactInput(subject=f"Jane {CANARY}", predicate=f"has_{CANARY}", object=f"a {CANARY}")],
    )
    failed = await until(app, view, EnrichmentState.FAILED)
    said.append(str(failed.enrichment_failure))
    model.fail_chats(None)
    await app.memory.retry_ingestion(CALLER, ingestion_id=view.ingestion_id, namespace=CANARY)
    await until(app, view, EnrichmentState.DONE)
    await _embedded(app)
    assert (await app.memory.search(CALLER, query="headquartered", namespace=CANARY)).hits
    return said


async def _plant_what_waits(app: App) -> None:
    for text in (f"{CANARY} waits", LONG):
        await app.memory.add_memory(CALLER, text=text, namespace=CANARY)


async def _embedded(app: App) -> None:
    async def none_owed() -> bool:
        ready = app.embedder is not None and app.embedder.state.ready
        return ready and await app.record.passage_vectors.count_owed(app.index.embedder_name or "") == 0

    await eventually(none_owed)


def _of_passages(cache: ProcessCache) -> set[str]:
    return {key for key in cache._entries if ":p:" in key}


def _without_path(error: ApexError) -> str:
    """A caller is told the path that he gave."""
    return error.message.replace(f"no-{CANARY}-here", "")


def _holds(history: WorkflowHistory) -> bool:
    events: Iterable[bytes] = (event.SerializeToString() for event in history.events)
    return any(CANARY.encode() in event for event in events)


async def _write_to_files(app: App) -> None:
    """Everything is in the files, samples of values among it."""
    async with app.record.database.connection() as connection:
        await connection.execute("ANALYZE")
        await connection.execute("CHECKPOINT")
    await app.index.flush()


def _files_with(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if CANARY in path.name or (path.is_file() and CANARY.encode() in _content(path))
    ]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # it has gone meanwhile
