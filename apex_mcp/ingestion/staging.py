"""Where raw and parsed content waits between steps, by ingestion; kept for a while after a failure."""

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Protocol
from uuid import UUID

from apex_mcp.errors import Code, Unavailable


class Staging(Protocol):
    """Named pieces of content of one ingestion. Writing a name again replaces it; deleting what is not there is no error."""

    async def put(self, ingestion_id: UUID, name: str, data: bytes) -> None:
        """Keep a piece, whole or not at all.

        Raises:
            Unavailable: there is no room (`disk_full`).
        """
        ...

    async def get(self, ingestion_id: UUID, name: str) -> bytes | None:
        """A piece, or None."""
        ...

    async def local_path(self, ingestion_id: UUID, name: str) -> Path:
        """A path at which a child process can read a piece that is there."""
        ...

    async def delete(self, ingestion_id: UUID) -> None:
        """Remove everything of an ingestion."""
        ...

    async def older_than(self, age_seconds: float) -> list[UUID]:
        """Ingestions whose content was last touched this long ago."""
        ...


class LocalStaging:
    """Staging in a folder of this machine.

    Args:
        folder: its folder; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _place(self, ingestion_id: UUID) -> Path:
        return self._folder / str(ingestion_id)

    async def put(self, ingestion_id: UUID, name: str, data: bytes) -> None:
        """See `Staging`."""

        def write() -> None:
            place = self._place(ingestion_id)
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = place / f"{name}.partial"
            partial.write_bytes(data)
            os.replace(partial, place / name)

        try:
            await asyncio.to_thread(write)
        except OSError as error:
            raise Unavailable(
                "there is no room for the content in the data folder",
                code=Code.DISK_FULL,
                unchanged="nothing of it was stored",
                next_step="free space on the data folder's disk; the ingestion goes on by itself",
                retry_after_seconds=10,
            ) from error

    async def get(self, ingestion_id: UUID, name: str) -> bytes | None:
        """See `Staging`."""

        def read() -> bytes | None:
            try:
                return (self._place(ingestion_id) / name).read_bytes()
            except FileNotFoundError:
                return None

        return await asyncio.to_thread(read)

    async def local_path(self, ingestion_id: UUID, name: str) -> Path:
        """See `Staging`."""
        return self._place(ingestion_id) / name

    async def delete(self, ingestion_id: UUID) -> None:
        """See `Staging`."""
        await asyncio.to_thread(shutil.rmtree, self._place(ingestion_id), ignore_errors=True)

    async def older_than(self, age_seconds: float) -> list[UUID]:
        """See `Staging`."""

        def look() -> list[UUID]:
            limit = time.time() - age_seconds
            if not self._folder.is_dir():
                return []
            return [UUID(place.name) for place in self._folder.iterdir() if place.stat().st_mtime < limit]

        return await asyncio.to_thread(look)
