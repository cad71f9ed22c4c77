"""The dispatcher over real PostgreSQL and Temporal: whatever Temporal loses is run again, and nothing runs twice to its end."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import LiteralString

import psutil
import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from apex_mcp.app import App, open_app
from apex_mcp.errors import Code
from apex_mcp.models import IngestionState, Lane
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_mcp.settings import Settings
from apex_mcp.stores.record.schema import ensure_schema
from apex_mcp.views import IngestionView
from apex_worker.dispatcher import Dispatcher
from apex_worker.embedded import make_worker
from tests.e2e.apps import CALLER, ended
from tests.record.conftest import create_database
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@dataclass
class Site:
    """An app on a database of its own, and its Temporal server, which a test may end."""

    app: App
    temporal: EmbeddedTemporal

    @asynccontextmanager
    async def dispatching(self, *, sole: bool = True) -> AsyncGenerator[Dispatcher]:
        app = self.app
        dispatcher = Dispatcher(
            client=app.temporal_client,
            task_queue=app.task_queue,
            ingestions=app.record.ingestions,
            outbox=app.record.outbox,
            index=app.index,
            bell=app.bell,
            health=app.health,
            sole=sole,
        )
        running = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def note(self, text: str) -> IngestionView:
        return await self.app.memory.add_memory(CALLER, text=text)

    async def look(self, view: IngestionView) -> IngestionView:
        return await self.app.memory.get_ingestion(CALLER, ingestion_id=view.ingestion_id)

    async def found(self, query: str) -> list[str]:
        return [hit.text for hit in (await self.app.memory.search(CALLER, query=query)).hits]

    async def change(self, statement: LiteralString) -> None:
        async with self.app.record.database.connection() as connection:
            await connection.execute(statement)

    async def ends_ready(self, *views: IngestionView) -> None:
        assert {view.state for view in await ended(self.app, views)} == {IngestionState.READY}


@pytest.fixture(scope="module")
async def postgres(anyio_backend: str) -> AsyncGenerator[EmbeddedPostgres]:
    with TemporaryDirectory(prefix="apex") as folder:
        server = EmbeddedPostgres(DataFolder(Path(folder) / "home").prepare())
        await ensure_schema(await server.start())
        yield server
        await server.stop()


@pytest.fixture
async def site(postgres: EmbeddedPostgres) -> AsyncGenerator[Site]:
    with TemporaryDirectory(prefix="apex") as folder:
        home = DataFolder(Path(folder) / "home").prepare()
        temporal = EmbeddedTemporal(home)
        conninfo = create_database(postgres, "apex")
        try:
            address = await temporal.start()
            settings = Settings(home=home.path, embedder="none")
            async with open_app(settings, folder=home, conninfo=conninfo, temporal_address=address) as app:
                yield Site(app, temporal)
        finally:
            await temporal.stop()


async def test_a_terminated_workflow_is_dispatched_again(site: Site) -> None:
    async with site.dispatching():
        note = await site.note("Lovage grows at the pier.")
        # No worker polls yet, so that the workflow waits to be terminated.
        lost = await eventually(lambda: _workflow(site, note))
        await site.app.temporal_client.get_workflow_handle(lost).terminate("by hand")
        again = await eventually(lambda: _workflow(site, note, but=lost))
        assert again == str(note.ingestion_id), "alone, in case it was its group that failed"
        async with make_worker(site.app):
            await site.ends_ready(note)
    assert await site.found("lovage") == ["Lovage grows at the pier."]


async def test_members_of_a_group_that_failed_leave_nothing_of_it_in_the_index(site: Site) -> None:
    notes = [await site.note(f"Lovage note {number}.") for number in range(3)]
    async with site.dispatching():
        group = await eventually(lambda: _workflow(site, notes[0]))
        # Its points are written before the record is asked, which answers what no retry can cure.
        await site.change("ALTER TABLE versions ADD CONSTRAINT nothing CHECK (false)")
        async with make_worker(site.app):
            await eventually(lambda: _released(site, notes, group))
            await site.change("ALTER TABLE versions DROP CONSTRAINT nothing")
            over = await ended(site.app, notes)
    assert {view.workflow_id for view in over} != {group}
    made = await site.app.record.database.fetch_all("SELECT id FROM versions")
    assert await site.app.vectors.version_ids() == {row["id"] for row in made}


async def test_a_workflow_that_never_comes_to_its_end_is_given_up(site: Site) -> None:
    async with site.dispatching():
        note = await site.note("Lovage.")
        terminated = ""
        while not (view := await site.look(note)).finished:
            run = await _run_id(site, view.workflow_id)
            if view.workflow_id and run and run != terminated:
                await site.app.temporal_client.get_workflow_handle(view.workflow_id, run_id=run).terminate()
                terminated = run
            await asyncio.sleep(0.01)
    assert view.state is IngestionState.ROLLED_BACK
    assert view.failure is not None
    assert view.failure.code == Code.INVARIANT
    assert view.failure.next_step
    assert await site.found("lovage") == []


async def test_a_dispatcher_ends_when_it_is_cancelled_just_as_the_bell_rings(site: Site) -> None:
    for _ in range(10):
        async with asyncio.timeout(30), site.dispatching():
            # Time enough to find the outbox empty, and to wait for the bell.
            for _ in range(5):
                await site.app.record.ingestions.unfinished()
            site.app.bell.ring()
            # What waits for the bell wakes in this turn of the loop, and the cancellation comes after it.
            await asyncio.sleep(0)


async def test_what_a_dead_dispatcher_had_claimed_is_taken_back(site: Site) -> None:
    notes = [await site.note(f"Lovage note {number}.") for number in range(3)]
    dead, claimed = await site.app.record.outbox.claim(
        owner="dead", lane=Lane.FAST, bulk=False, limit=64, lease_seconds=600
    )
    assert len(claimed) == 3
    async with make_worker(site.app), site.dispatching():
        await site.ends_ready(*notes)
    assert len(await site.found("lovage")) == 3
    assert await site.app.record.ingestions.owned([note.ingestion_id for note in notes], dead) == []


async def test_what_a_stopping_dispatcher_holds_waits_for_others_at_once_and_does_not_count(
    site: Site,
) -> None:
    store = site.app.record.ingestions
    async with site.dispatching(sole=False) as dispatcher:
        # No worker polls, so its workflow cannot end.
        note = await site.note("Lovage.")
        await eventually(lambda: _workflow(site, note))
        dispatcher.stop()
        later = await site.note("Lovage later.")
    await dispatcher.release_all()
    found = await store.get([note.ingestion_id, later.ingestion_id])
    assert [(one.state, one.attempts) for one in found] == [(IngestionState.PENDING, 0)] * 2
    _, claimed = await site.app.record.outbox.claim(
        owner="other", lane=Lane.FAST, bulk=False, limit=8, lease_seconds=60
    )
    assert {one.id for one in claimed} == {note.ingestion_id, later.ingestion_id}


async def test_only_leases_that_ran_out_are_taken_from_other_dispatchers(site: Site) -> None:
    alive, dead = await site.note("Lovage alive."), await site.note("Lovage dead.")
    for owner, seconds in (("alive", 600.0), ("dead", -1.0)):
        await site.app.record.outbox.claim(
            owner=owner, lane=Lane.FAST, bulk=False, limit=1, lease_seconds=seconds
        )
    async with make_worker(site.app), site.dispatching(sole=False) as dispatcher:
        await dispatcher.reclaim(all_others=False)
        await site.ends_ready(dead)
        assert (await site.look(alive)).state is IngestionState.RUNNING


async def test_without_temporal_ingestions_wait_visibly_and_searches_go_on(site: Site) -> None:
    async with make_worker(site.app), site.dispatching():
        await site.ends_ready(await site.note("Lovage before."))
        await site.temporal.stop()
        note = await site.note("Lovage meanwhile.")
        waiting = await eventually(lambda: _waiting(site, note))
        assert "Temporal does not answer" in waiting
        assert await site.found("lovage") == ["Lovage before."]
        assert site.app.health.of("temporal").state == "down"
        await site.temporal.start()
        await site.ends_ready(note)
        view = await site.look(note)
        assert (view.waiting_for, view.attempts) == ("", 1)
        assert site.app.health.of("temporal").state == "ok"
    assert sorted(await site.found("lovage")) == ["Lovage before.", "Lovage meanwhile."]


async def test_that_temporal_hangs_is_said_while_an_ingestion_runs(site: Site) -> None:
    async with site.dispatching():
        # No worker polls, so its workflow is under way until there is one.
        note = await site.note("Lovage.")
        await eventually(lambda: _workflow(site, note))
        server = psutil.Process(site.temporal.pid)
        server.suspend()
        try:
            assert "Temporal does not answer" in await eventually(lambda: _waiting(site, note))
        finally:
            server.resume()
        async with make_worker(site.app):
            await site.ends_ready(note)
            await eventually(lambda: _well(site))


async def _well(site: Site) -> bool:
    return site.app.health.of("temporal").state == "ok"


async def _workflow(site: Site, note: IngestionView, *, but: str = "") -> str:
    """The id of the workflow that runs a note, once Temporal has it."""
    workflow_id = (await site.look(note)).workflow_id or ""
    return workflow_id if workflow_id != but and await _run_id(site, workflow_id) else ""


async def _released(site: Site, notes: list[IngestionView], group: str) -> bool:
    """Whether none of them is run by this group any more."""
    views = [await site.look(note) for note in notes]
    return all(view.finished or view.workflow_id != group for view in views)


async def _run_id(site: Site, workflow_id: str | None) -> str:
    """The id of a running workflow's run; empty while there is none."""
    if not workflow_id:
        return ""
    try:
        run = await site.app.temporal_client.get_workflow_handle(workflow_id).describe()
    except RPCError:
        return ""
    return run.run_id if run.status is WorkflowExecutionStatus.RUNNING else ""


async def _waiting(site: Site, note: IngestionView) -> str:
    return (await site.look(note)).waiting_for if site.app.health.of("temporal").state == "down" else ""
