"""The indexes of one record in a folder, which one process owns: a folder each."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from apex_mcp.stores.vectors.edge import EdgeVectorIndex


class EdgeHome:
    """An `IndexHome` of Qdrant Edge.

    Args:
        folder: the folder; made when it is missing.
    """

    shared = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def open(
        self,
        name: str,
        *,
        record_id: UUID,
        embedder: str | None,
        dimension: int | None,
        on_lost: Callable[[], None],
        on_empty: Callable[[], Awaitable[None]],
    ) -> EdgeVectorIndex:
        """Open an index, or make it. `on_empty` is not called: nobody else searches it, and its keeper sees its position."""
        return await EdgeVectorIndex.open(
            self._folder / name,
            record_id=record_id,
            embedder=embedder,
            dimension=dimension,
            on_lost=on_lost,
        )

    async def remove(self, name: str) -> None:
        """Remove an index in which nobody searches."""
        await asyncio.to_thread(shutil.rmtree, self._folder / name, ignore_errors=True)

    async def remove_others(self, *names: str) -> None:
        """Remove every index but the named ones."""
        for place in await asyncio.to_thread(lambda: list(self._folder.glob("index-*"))):
            if place.name not in names:
                await self.remove(place.name)
