"""Breaks the product as it is imported, so that the checker can be seen to fail: `APEX_BROKEN` says how.

Python imports this by itself where PYTHONPATH names this folder, as a chaos run with `--broken` does for its daemon.
"""

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_LATE_SECONDS = 1.5


def _commit(module: Any) -> None:
    """The commit point moved: a version is published with half of its passages, and the rest comes after."""
    store, columns = module.VersionStore, module._chunk_columns
    commit = store.commit
    held: list[tuple[Any, Any]] = []

    def first_half(pairs: Sequence[tuple[Any, Any]]) -> Any:
        held.extend(pair for pair in pairs if pair[1].ordinal)
        return columns([pair for pair in pairs if not pair[1].ordinal])

    async def committed(self: Any, versions: Any, claim: Any, **more: Any) -> Any:
        import asyncio

        module._chunk_columns = first_half
        result = await commit(self, versions, claim, **more)
        rest = [held.pop(0) for _ in range(len(held))]
        ready = {one for one, state in result.states.items() if state == "ready"}

        async def follow() -> None:
            await asyncio.sleep(_LATE_SECONDS)
            pairs = [pair for pair in rest if pair[0].ingestion_id in ready]
            async with self._database.transaction() as connection:
                await connection.execute(module._INSERT_CHUNKS, columns(pairs))

        _following.append(asyncio.create_task(follow()))
        return result

    store.commit = committed


_following: list[Any] = []


def _compensation(module: Any) -> None:
    """No purge, and no replay in its place: what a run wrote that was cancelled or lost stays where it is."""

    async def nothing(self: Any, purges: Sequence[Any]) -> None:
        await self._record.purges.passed([one.version_id for one in purges], again_after_seconds=[3600])

    async def retire_only(self: Any, version_ids: Sequence[Any], *, but: Sequence[Any] = ()) -> None:
        await self._index.retire((await self._log.standing(version_ids)).retired)

    module.IndexUpkeep.purge = nothing
    module.Replay.settle = retire_only


def _outbox(module: Any) -> None:
    """The outbox bypassed: some requests are acknowledged, and nobody will run them."""
    store = module.IngestionStore
    accept = store.accept

    async def accepted(self: Any, requests: Any, request_ids: Any = None) -> Any:
        ids = await accept(self, requests, request_ids)
        async with self._database.connection() as connection:
            await connection.execute(
                "DELETE FROM outbox WHERE ingestion_id = ANY(%s) AND seq %% 10 = 7 AND lease_owner IS NULL",
                (ids,),
            )
        return ids

    store.accept = accepted


_BREAKS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "commit": ("apex_mcp.stores.record.versions", _commit),
    "compensation": ("apex_mcp.ingestion.index_upkeep", _compensation),
    "outbox": ("apex_mcp.stores.record.ingestions", _outbox),
}


class _Breaker(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds one module in place of Python, loads it as Python would, and breaks it."""

    def __init__(self, name: str, break_it: Callable[[Any], None]) -> None:
        self._name = name
        self._break = break_it
        self._found: ModuleSpec | None = None

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        self._found = importlib.util.find_spec(fullname)
        assert self._found is not None
        return importlib.util.spec_from_loader(fullname, self, origin=self._found.origin)

    def exec_module(self, module: ModuleType) -> None:
        assert self._found is not None
        assert self._found.loader is not None
        module.__file__ = self._found.origin
        self._found.loader.exec_module(module)
        self._break(module)


if how := os.environ.get("APEX_BROKEN"):
    sys.meta_path.insert(0, _Breaker(*_BREAKS[how]))
