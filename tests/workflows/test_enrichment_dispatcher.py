"""Who takes back what another worker had claimed for the model, over real PostgreSQL and Temporal."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from apex_mcp.app import App
from apex_mcp.ingestion.contract import GREETING_WORKFLOW
from apex_mcp.models import Exclusive
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.health import Health
from apex_mcp.stores.record.enrichments import Enrichment, EnrichmentStore
from apex_worker.embedded import make_enrichment_dispatcher, make_special_workers, make_worker
from apex_worker.enrichment import EnrichmentDispatcher, workflow_id
from apex_worker.graph import GraphDispatcher
from tests.doubles.openai_server import OpenAIServer
from tests.e2e.apps import app_without_worker, remember, working
from tests.e2e.enriching import asking
from tests.waiting import eventually, meanwhile

if TYPE_CHECKING:
    from apex_mcp.ingestion.projecting import Projector

pytestmark = pytest.mark.anyio


class SlowToAct(EnrichmentStore):
    """Sees what ran out, and goes on when it is told to."""

    def __init__(self, app: App) -> None:
        super().__init__(app.record.database, Exclusive())
        self.seen, self.going_on = asyncio.Event(), asyncio.Event()

    async def expired(self, *, not_owner: str, all_others: bool) -> list[Enrichment]:
        found = await super().expired(not_owner=not_owner, all_others=all_others)
        self.seen.set()
        await self.going_on.wait()
        return found


def dispatcher(app: App, store: EnrichmentStore) -> EnrichmentDispatcher:
    return EnrichmentDispatcher(
        client=app.temporal_client,
        task_queue="nobody-polls",
        store=store,
        bell=app.bell,
        health=app.health,
        enricher=app.enricher,
        sole=False,
    )


async def run_of(client: Client, id_: str) -> str:
    """The run of a workflow that goes on; empty while there is none."""
    try:
        run = await client.get_workflow_handle(id_).describe()
    except RPCError:
        return ""
    return run.run_id if run.status is WorkflowExecutionStatus.RUNNING else ""


async def test_of_two_workers_that_take_back_one_enrichment_the_slower_leaves_the_quickers_run_alone() -> (
    None
):
    with OpenAIServer() as model, TemporaryDirectory(prefix="apex") as folder:
        home = Path(folder) / "home"
        async with app_without_worker(home) as app, working(app):
            await remember(app, "Jane Doe works at Initech.")
        async with app_without_worker(home, **asking(model)) as app:
            store = app.record.enrichments
            assert await store.want(None) == 1
            (lost,) = await store.claim(owner="dead", limit=1, lease_seconds=-1)
            slow_store = SlowToAct(app)
            slower, quicker = dispatcher(app, slow_store), dispatcher(app, store)
            slow = asyncio.create_task(slower.reclaim(all_others=False))
            await slow_store.seen.wait()
            await quicker.reclaim(all_others=False)
            async with meanwhile(quicker.run()):
                id_ = workflow_id(lost.version_id)
                run = await eventually(lambda: run_of(app.temporal_client, id_))
                slow_store.going_on.set()
                await slow
                assert await run_of(app.temporal_client, id_) == run
                rows = await app.record.database.fetch_all(
                    "SELECT state, lease_owner, losses FROM enrichments"
                )
                assert rows == [{"state": "running", "lease_owner": quicker.owner, "losses": 1}]


async def test_a_worker_without_a_model_takes_nothing_from_those_that_have_one() -> None:
    with OpenAIServer() as model, TemporaryDirectory(prefix="apex") as folder:
        home = Path(folder) / "home"
        async with app_without_worker(home) as app, working(app):
            await remember(app, "Jane Doe works at Initech.")
        async with app_without_worker(home, **asking(model)) as app:
            client, store = app.temporal_client, app.record.enrichments
            assert await store.want(None) == 1
            [version] = await app.record.database.fetch_all("SELECT version_id AS id FROM enrichments")
            handle = client.get_workflow_handle(workflow_id(version["id"]))
            async with make_worker(app), meanwhile(make_enrichment_dispatcher(app, client).run()):
                await eventually(lambda: run_of(client, handle.id))
                # Whatever that worker can do is done by now, in the order of its queue.
                await client.execute_workflow(
                    GREETING_WORKFLOW, "x", id="greeting", task_queue=app.task_queue
                )
                assert [event.event_id for event in (await handle.fetch_history()).events] == [1, 2]
                [with_model] = make_special_workers(app, client)
                async with with_model:
                    await handle.result()
            rows = await app.record.database.fetch_all("SELECT state, losses FROM enrichments")
            assert (rows, len(model.chats())) == ([{"state": "done", "losses": 0}], 1)


class NeverDone:
    """What the server of a graph that is away makes of a projector."""

    async def has_work(self) -> bool:
        return True


async def test_a_worker_that_stops_does_not_wait_for_the_graphs_server(temporal: Client) -> None:
    one = GraphDispatcher(
        client=temporal,
        task_queue="nobody-polls-either",
        workflow_id="graph-projection-away",
        projector=cast("Projector", NeverDone()),
        bell=Bell(),
        health=Health(),
    )
    async with meanwhile(one.run()) as task:
        run = await eventually(lambda: run_of(temporal, "graph-projection-away"))
        one.stop()
        await eventually(task.done)
        assert await run_of(temporal, "graph-projection-away") == run, "another worker goes on with it"
