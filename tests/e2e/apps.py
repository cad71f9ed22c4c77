"""The app in this process, over its own PostgreSQL and Temporal, with its worker."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio

from apex_mcp.app import App, open_app
from apex_mcp.caller import Caller
from apex_mcp.models import IngestionState
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_mcp.settings import Settings
from apex_mcp.views import IngestionView
from apex_worker.embedded import run_worker

CALLER = Caller(vouched=True)


@asynccontextmanager
async def app_without_worker(path: Path, *, serving: bool = False, **given: Any) -> AsyncGenerator[App]:
    """Everything that a daemon runs but the worker, see `working`; `given` are settings. With `serving` it never works."""
    folder = DataFolder(path).prepare()
    postgres, temporal = EmbeddedPostgres(folder), EmbeddedTemporal(folder)
    try:
        conninfo, address = await asyncio.gather(postgres.start(), temporal.start())
        values: dict[str, Any] = {"home": path, "embedder": "none", **given}
        settings = Settings(**values)
        async with open_app(
            settings, folder=folder, conninfo=conninfo, temporal_address=address, working=not serving
        ) as app:
            yield app
    finally:
        await temporal.stop()
        await postgres.stop()


@asynccontextmanager
async def working(app: App) -> AsyncGenerator[None]:
    """A worker with its dispatcher."""
    worker = asyncio.create_task(run_worker(app))
    try:
        yield
    finally:
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker


async def ended(app: App, views: Sequence[IngestionView], seconds: float = 60) -> list[IngestionView]:
    """The ingestions, once they are over."""
    with anyio.fail_after(seconds):
        return [await _ended(app, view.ingestion_id) for view in views]


async def _ended(app: App, ingestion_id: UUID) -> IngestionView:
    view = await app.memory.get_ingestion(CALLER, ingestion_id=ingestion_id)
    while not view.finished:
        news = app.memory.watch_ingestion(CALLER, ingestion_id=ingestion_id, wait_seconds=10)
        view = [latest async for latest in news][-1]
    return view


async def remember(app: App, text: str, **more: Any) -> IngestionView:
    """Store a note and wait until it is searchable."""
    (view,) = await ended(app, [await app.memory.add_memory(CALLER, text=text, **more)])
    assert view.state is IngestionState.READY, view
    return view
