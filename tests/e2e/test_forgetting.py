"""Forgetting through `Memory`, with a worker that runs meanwhile."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apex_mcp.app import App
from apex_mcp.errors import InputError, NotFound
from apex_mcp.ingestion.contract import StepInput
from apex_mcp.models import EntityInput, FactInput, IndexFilter, Lane
from apex_mcp.server import rendering
from tests.e2e.apps import CALLER, app_without_worker, ended, remember, working
from tests.ingestion.documents import make_docx
from tests.services.neo4j_server import lacking, own_server
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_a_memory_is_forgotten_everywhere_and_can_be_told_again(tmp_path: Path) -> None:
    async with app_without_worker(tmp_path / "home") as app, working(app):
        for name, made in (("ACME Corp.", "anvils"), ("ACME Corporation", "rockets")):
            await remember(
                app,
                f"{name} makes {made}.",
                key=made,
                entities=[EntityInput(name=name, type="Organization")],
                facts=[FactInput(subject=name, predicate="makes", object=made)],
            )
        would = await app.memory.forget(CALLER, keys=["anvils"])
        assert (would.forgotten, would.documents, would.entities_shared) == (False, 1, 0)
        assert "ACME Corp." in rendering.forgetting(would)
        done = await app.memory.forget(CALLER, keys=["anvils"], confirm=True)
        assert (done.forgotten, done.removed, done.documents) == (True, True, 1)
        (acme,) = (await app.memory.get_entities(CALLER, query="ACME")).entities
        assert [fact.object for fact in acme.facts] == ["rockets"]
        assert acme.merged_from == []
        assert [hit.text for hit in (await app.memory.search(CALLER, query="makes")).hits] == [
            "ACME Corporation makes rockets."
        ]
        left = await app.vectors.search_words("anvils", IndexFilter(namespace="default"), limit=10)
        assert left == []
        with pytest.raises(NotFound):
            await app.memory.forget(CALLER, keys=["anvils"], confirm=True)
        with pytest.raises(InputError):
            await app.memory.forget(CALLER, keys=["anvils"], whole_namespace=True)
        again = await remember(app, "ACME Corp. makes anvils.", key="anvils")
        assert again.version == 1
        gone = await app.memory.forget(CALLER, entity_id=acme.entity_id, confirm=True)
        assert [one.title for one in gone.mentioned_in][-1:] != []
        assert (await app.memory.get_entities(CALLER, query="ACME")).entities == []
        assert len((await app.memory.search(CALLER, query="makes")).hits) == 2


async def test_a_run_whose_ingestion_was_forgotten_keeps_and_stages_nothing(tmp_path: Path) -> None:
    path = tmp_path / "note.docx"
    path.write_bytes(make_docx([("", "The herb lovage.")]))
    async with app_without_worker(tmp_path / "home") as app:
        view = await app.memory.ingest_document(CALLER, source=str(path))
        claim, _ = await app.record.outbox.claim(
            owner="me", lane=Lane.OWN, bulk=False, limit=1, lease_seconds=60
        )
        step = StepInput(ingestion_ids=[str(view.ingestion_id)], claim=str(claim))
        assert (await app.steps.parse(step)).going_on == step.ingestion_ids
        done = await app.memory.forget(CALLER, document_ids=[view.document_id], confirm=True)
        assert (done.removed, done.ingestions_cancelled) == (True, 1)
        # As a step that was on its way meanwhile.
        await app.staging.put(view.ingestion_id, "raw", b"lovage")
        assert (await app.steps.write(step)).going_on == []
        assert app.steps._drafts.get(view.ingestion_id, claim) is None
        assert await app.staging.get(view.ingestion_id, "raw") is None
        with pytest.raises(NotFound, match="forgotten"):
            await app.memory.get_ingestion(CALLER, ingestion_id=view.ingestion_id)


async def test_what_is_forgotten_while_it_runs_ends_without_a_trace(tmp_path: Path) -> None:
    async with app_without_worker(tmp_path / "home") as app, working(app):
        kept = [await app.memory.add_memory(CALLER, text=f"kept {number}") for number in range(20)]
        for number in range(20):
            await app.memory.add_memory(CALLER, text=f"gone {number}", key=f"gone/{number}")
            if number % 5 == 4:
                keys = [f"gone/{one}" for one in range(number - 4, number + 1)]
                await app.memory.forget(CALLER, keys=keys, confirm=True)
                await asyncio.sleep(0)
        await ended(app, kept)

        async def clean() -> bool:
            rows = await app.record.database.fetch_all(
                "SELECT 1 FROM documents WHERE key LIKE 'gone/%%' "
                "UNION ALL SELECT 1 FROM purges WHERE passes = 0 UNION ALL SELECT 1 FROM outbox"
            )
            return not rows

        await eventually(clean)
        assert (await app.memory.list_memories(CALLER, limit=50)).total == 20
        assert await app.vectors.search_words("gone", IndexFilter(namespace="default"), limit=10) == []


async def in_graph(app: App, words: str) -> int:
    """Nodes and relations that say this, as Neo4j itself sees them."""
    assert app.projector is not None
    (row,) = await app.projector._client.read(
        "MATCH (n) OPTIONAL MATCH (n)-[r]->() WITH collect(n) + collect(r) AS every UNWIND every AS one WITH DISTINCT one "
        "WHERE any(name IN keys(one) WHERE toStringOrNull(one[name]) CONTAINS $words) RETURN count(one) AS number",
        words=words,
    )
    return row["number"]


@pytest.mark.xdist_group("neo4j")
async def test_what_is_forgotten_while_the_graph_is_away_is_removed_when_it_is_back(tmp_path: Path) -> None:
    if lack := lacking():
        pytest.skip(lack)
    with own_server(tmp_path) as neo4j:
        settings: dict[str, Any] = {
            "neo4j_uri": neo4j.uri,
            "neo4j_user": neo4j.user,
            "neo4j_password": neo4j.password,
        }
        async with app_without_worker(tmp_path / "home", **settings) as app, working(app):
            for number in range(2):
                await remember(app, f"Ann works at Acme {number}.", key=f"note/{number}")

            async def told() -> bool:
                return await app.record.graph_queue.complete_for("default") is not None

            await eventually(told)
            assert await in_graph(app, "works at Acme") > 0
            gone = await app.memory.forget(CALLER, keys=["note/0"], confirm=True)
            assert (gone.removed, gone.waits_for) == (True, "")
            assert await in_graph(app, "Acme 0") == 0
            neo4j.kill()
            caller = replace(CALLER, request_id="this very call")
            waiting = await app.memory.forget(caller, keys=["note/1"], confirm=True)
            assert (waiting.forgotten, waiting.removed) == (True, False)
            assert waiting.waits_for == "the graph in Neo4j"
            assert "it is being removed from the graph in Neo4j" in rendering.forgetting(waiting)

            async def holds_it() -> bool:
                stores = (await app.memory.get_stats(CALLER)).stores
                (graph,) = [one.detail for one in stores if one.name == "graph"]
                return "it still holds what was forgotten" in graph

            assert await holds_it()
            neo4j.start()

            async def let_go() -> bool:
                return not await holds_it()

            await eventually(let_go, seconds=120)
            assert await in_graph(app, "works at Acme") == 0
            again = await app.memory.forget(caller, keys=["note/1"], confirm=True)
            assert (again.removed, again.waits_for) == (True, "")
