"""The graph in Neo4j as part of a whole memory: written by its workflow, read by the tools, missed by nobody."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from apex_mcp.app import App
from apex_mcp.errors import Conflict
from apex_mcp.models import EntityInput, FactInput
from apex_mcp.stores.graph.best import DEGRADED
from apex_mcp.stores.record.index_log import REBUILDING
from apex_mcp.views import StoreHealth
from tests.e2e.apps import CALLER, app_without_worker, remember, working
from tests.services.neo4j_server import Neo4jServer, free_port, lacking, own_server
from tests.waiting import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("neo4j")]


async def tell(app: App, subject: str, predicate: str, object_: str) -> None:
    await remember(
        app,
        f"{subject} {predicate} {object_}",
        entities=[EntityInput(name=subject, type="person"), EntityInput(name=object_, type="person")],
        facts=[FactInput(subject=subject, predicate=predicate, object=object_, sentence=f"{subject} {predicate} {object_}.")],
    )  # fmt: skip


async def graph_of(app: App) -> StoreHealth:
    (graph,) = [one for one in (await app.memory.get_stats(CALLER)).stores if one.name == "graph"]
    return graph


async def near(
    app: App, name: str, hops: int
) -> tuple[Sequence[tuple[str, int, Sequence[str]]], Sequence[str]]:
    found = await app.memory.get_entities(CALLER, query=name, hops=hops, limit=1)
    return [(one.name, one.hops, one.by) for one in found.neighbours], found.degraded


async def up_to_date(app: App) -> bool:
    return await app.record.graph_queue.complete_for("default") is not None


async def test_what_is_stored_comes_to_the_graph_by_itself_and_again_after_a_reindex(
    tmp_path: Path, neo4j: Neo4jServer
) -> None:
    settings: dict[str, Any] = {
        "neo4j_uri": neo4j.uri,
        "neo4j_user": neo4j.user,
        "neo4j_password": neo4j.password,
    }
    async with app_without_worker(tmp_path / "home", **settings) as app, working(app):
        await tell(app, "Ann", "knows", "Bob")
        await tell(app, "Bob", "knows", "Cem")
        await eventually(lambda: up_to_date(app))
        told: tuple[object, list[str]] = (
            [("Bob", 1, ["Ann knows Bob."]), ("Cem", 2, ["Bob knows Cem."])],
            [],
        )
        assert await near(app, "Ann", 2) == told
        graph = await graph_of(app)
        assert (graph.state, graph.detail) == ("ok", "Neo4j: up to date")
        before = await app.record.graph_queue.mark()
        async with app.record.index_log.alone(REBUILDING, wait_seconds=5):
            with pytest.raises(Conflict):
                await anext(aiter(app.memory.reindex(CALLER)))
        assert await app.record.graph_queue.mark() == before
        async for _ in app.memory.reindex(CALLER):
            pass
        assert await near(app, "Ann", 2) == told
        await eventually(lambda: up_to_date(app))
        assert await app.record.graph_queue.mark() != before
        assert await near(app, "Ann", 2) == told


async def test_a_graph_that_is_away_holds_up_no_text_and_is_named(tmp_path: Path) -> None:
    away = f"bolt://127.0.0.1:{free_port()}"
    async with (
        app_without_worker(tmp_path / "home", neo4j_uri=away, neo4j_password="secret") as app,
        working(app),
    ):
        await tell(app, "Ann", "knows", "Bob")
        assert (await app.memory.search(CALLER, query="knows")).hits
        assert await near(app, "Ann", 1) == ([("Bob", 1, ["Ann knows Bob."])], [DEGRADED])
        graph = await graph_of(app)
        assert graph.state == "down"
        assert graph.detail.startswith("Neo4j does not answer")
        assert "secret" not in graph.detail


async def test_a_graph_that_hangs_is_waited_for_once_in_a_question(tmp_path: Path) -> None:
    if lack := lacking():
        pytest.skip(lack)
    with own_server(tmp_path) as neo4j:
        settings: dict[str, Any] = {
            "neo4j_uri": neo4j.uri,
            "neo4j_user": neo4j.user,
            "neo4j_password": neo4j.password,
        }
        async with app_without_worker(tmp_path / "home", **settings) as app:
            async with working(app):
                await tell(app, "Ann", "knows", "Bob")
                await eventually(lambda: up_to_date(app))
            told = [("Bob", 1, ["Ann knows Bob."])]
            assert await near(app, "Ann", 1) == (told, [])
            process = psutil.Process(neo4j.pid)
            process.suspend()
            try:
                with anyio.fail_after(10):
                    assert await near(app, "Ann", 1) == (told, [DEGRADED])
                assert await near(app, "Ann", 1) == (told, [DEGRADED])
                # Neo4j was asked once each time: three times, and it would be left alone.
                assert app.health.of("graph").state == "degraded"
            finally:
                process.resume()
