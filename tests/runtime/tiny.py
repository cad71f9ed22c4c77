"""A daemon with a tiny memory: `python -m tests.runtime.tiny HOME`. All but the services is the real thing."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, InputError, NotFound, Rejected
from apex_mcp.ids import APEX
from apex_mcp.models import IngestionState, Step
from apex_mcp.runtime.daemon import main
from apex_mcp.runtime.home import DataFolder
from apex_mcp.settings import Settings
from apex_mcp.views import IngestionView, SearchView

MODULE = "tests.runtime.tiny"


def view(namespace: str, key: str) -> IngestionView:
    now = datetime.now(UTC)
    ingestion = uuid5(APEX, key)
    return IngestionView(
        ingestion_id=ingestion, document_id=ingestion, namespace=namespace, key=key, state=IngestionState.READY,
        step=Step.CLEANUP, steps_done=6, finished=True, version=1, accepted_at=now, finished_at=now,
    )  # fmt: skip


class TinyMemory:
    """Remembers each note once per request id, in a file; a search for "wait" waits for a file `go`."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._notes = home / "staging" / "notes.json"

    async def add_memory(
        self,
        caller: Caller,
        *,
        text: str,
        title: str | None = None,
        key: str | None = None,
        namespace: str | None = None,
        document_time: datetime | None = None,
        metadata: dict[str, Any] | None = None,
        entities: Any = (),
        facts: Any = (),
        idempotency_key: str | None = None,
    ) -> IngestionView:
        notes: dict[str, str] = json.loads(self._notes.read_text("utf-8")) if self._notes.exists() else {}
        notes[caller.request_id or f"own-{len(notes)}"] = text
        unfinished = self._notes.with_suffix(".new")
        unfinished.write_text(json.dumps(notes), "utf-8")
        unfinished.replace(self._notes)
        if text.startswith("crash"):
            with (self._home / "staging" / "crashes").open("a", encoding="utf-8") as crashes:
                crashes.write("x")
            os._exit(9)
        if text.startswith("wait"):
            await self._wait()
        return view(namespace or caller.namespace, text)

    async def search(
        self, caller: Caller, *, query: str, namespace: str | None = None, **_: Any
    ) -> SearchView:
        if query == "wait":
            await self._wait()
        return SearchView(query=query, namespace=namespace or caller.namespace, hits=[], revision=1)

    async def get_ingestion(self, caller: Caller, *, ingestion_id: UUID) -> IngestionView:
        raise NotFound("no such ingestion")

    async def get_ingestions(self, caller: Caller, *, ingestion_ids: list[UUID]) -> list[Any]:
        return [view(caller.namespace, str(ingestion_ids[0])), InputError("bad one", code=Code.EMPTY_CONTENT)]

    async def watch_ingestion(
        self, caller: Caller, *, ingestion_id: UUID, wait_seconds: float
    ) -> AsyncGenerator[IngestionView]:
        for _ in range(3):
            yield view(caller.namespace, "watched")

    async def _wait(self) -> None:
        (self._home / "staging" / "waiting").touch()
        while not (self._home / "staging" / "go").exists():  # noqa: ASYNC110  (another process makes it)
            await asyncio.sleep(0.01)


class TinyServices:
    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self.memory = TinyMemory(folder.path)

    async def busy(self) -> bool:
        return (self._folder.staging / "unfinished").exists()

    async def status(self) -> dict[str, Any]:
        return {"services": [], "unfinished": await self.busy()}

    async def lost(self) -> None:
        await asyncio.Event().wait()

    async def ui(self) -> str:
        return "http://127.0.0.1:1"

    async def workflows(self, limit: int) -> list[dict[str, Any]]:
        return []

    async def backup(self, path: Path, *, force: bool) -> AsyncGenerator[int]:
        yield 0


@contextlib.asynccontextmanager
async def open_tiny(settings: Settings, folder: DataFolder) -> AsyncGenerator[TinyServices]:
    if (folder.staging / "foreign").exists():
        raise Rejected(
            "the data folder was made by PostgreSQL 17", code=Code.POSTGRES_VERSION, next_step="export it"
        )
    yield TinyServices(folder)
    (folder.staging / "closed").touch()


if __name__ == "__main__":
    sys.exit(main("tests.runtime.tiny:open_tiny"))
