"""Where raw and parsed content waits between steps, by ingestion; kept for a while after a failure."""

import asyncio
import errno
import os
import shutil
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.settings import Settings
from apex_mcp.stores.health import Health

# In a shared place, to know it by.
MARK = ".apex-mcp-staging"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

T = TypeVar("T")


class Staging(Protocol):
    """Named pieces of content of one ingestion. Writing a name again replaces it; deleting what is not there is no error.

    Every call raises `Unavailable`: `staging_unavailable` while the place does not answer, `disk_full` where it has no room.
    """

    async def put(self, ingestion_id: UUID, name: str, data: bytes) -> None:
        """Keep a piece, whole or not at all."""
        ...

    async def get(self, ingestion_id: UUID, name: str) -> bytes | None:
        """A piece, or None."""
        ...

    def local_file(self, ingestion_id: UUID, name: str) -> AbstractAsyncContextManager[Path]:
        """A path at which a child process can read a piece, until the end of the block; nothing is there if there is none."""
        ...

    async def delete(self, ingestion_id: UUID) -> None:
        """Remove everything of an ingestion."""
        ...

    async def older_than(self, age_seconds: float) -> list[UUID]:
        """Ingestions whose content was last touched this long ago."""
        ...

    async def mark(self) -> str:
        """What this place is known by, wherever it is seen from: random, and kept in it since this was first asked.

        Who asks at the same time as another may be told something else.
        """
        ...


class LocalStaging:
    """Staging in a folder: of this machine, or one that several share.

    Args:
        folder: its folder; made when first needed.
        shared: it is on a volume that several machines share, and was marked when it was opened. Without its mark it is
            another one: the place where the volume was mounted.
    """

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        self._folder = folder
        self._shared = shared

    def _place(self, ingestion_id: UUID) -> Path:
        return self._folder / str(ingestion_id)

    async def put(self, ingestion_id: UUID, name: str, data: bytes) -> None:
        """See `Staging`."""

        def write() -> None:
            self._require_volume()
            place = self._place(ingestion_id)
            place.mkdir(parents=not self._shared, exist_ok=True, mode=0o700)
            # A name of its own: a paused attempt may wake up while another one writes the same piece.
            partial = place / f"{name}.{uuid4().hex[:8]}.partial"
            try:
                partial.write_bytes(data)
                os.replace(partial, place / name)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

        await _in_thread(write)

    async def get(self, ingestion_id: UUID, name: str) -> bytes | None:
        """See `Staging`."""

        def read() -> bytes | None:
            try:
                return (self._place(ingestion_id) / name).read_bytes()
            except FileNotFoundError:
                self._require_volume()
                return None

        return await _in_thread(read)

    @asynccontextmanager
    async def local_file(self, ingestion_id: UUID, name: str) -> AsyncGenerator[Path]:
        """See `Staging`."""
        await _in_thread(self._require_volume)
        yield self._place(ingestion_id) / name

    async def delete(self, ingestion_id: UUID) -> None:
        """See `Staging`. What cannot be removed from the data folder goes when its time is over."""

        def remove() -> None:
            self._require_volume()
            with suppress(FileNotFoundError):
                shutil.rmtree(self._place(ingestion_id), ignore_errors=not self._shared)

        await _in_thread(remove)

    async def older_than(self, age_seconds: float) -> list[UUID]:
        """See `Staging`."""

        def look() -> list[UUID]:
            self._require_volume()
            limit = time.time() - age_seconds
            old: list[UUID] = []
            for place in self._folder.iterdir() if self._folder.is_dir() else ():
                ingestion_id = as_id(place.name)
                try:
                    if ingestion_id is not None and place.stat().st_mtime < limit:
                        old.append(ingestion_id)
                except FileNotFoundError:
                    continue  # another process removed it
            return old

        return await _in_thread(look)

    async def mark(self) -> str:
        """See `Staging`."""

        def read_or_make() -> str:
            if not self._shared:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = self._folder / MARK
            kept = file.read_text(encoding="ascii") if file.exists() else ""
            if not kept:
                file.write_text(new_mark(), encoding="ascii")
                kept = file.read_text(encoding="ascii")
            return kept

        return await _in_thread(read_or_make)

    def _require_volume(self) -> None:
        if self._shared and not (self._folder / MARK).exists():
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


async def open_staging(settings: Settings, folder: Path, health: Health) -> Staging:
    """The staging that the settings ask for.

    Args:
        settings: `staging`, and `s3_endpoint_url`.
        folder: the data folder's own, used where they name none.
        health: what the condition of one on a server is told to, as `staging`.

    Raises:
        Rejected: it can't be used as it is: no such bucket, no right to write (`settings_invalid`).
        Unavailable: it does not answer.
    """
    if not settings.staging:
        return LocalStaging(folder)
    if settings.staging.startswith("s3://"):
        from apex_mcp.ingestion.staging_s3 import S3Staging

        return await S3Staging.open(settings.staging, endpoint_url=settings.s3_endpoint_url, health=health)
    if "://" in settings.staging:
        raise Rejected(
            "APEX_STAGING is neither a folder nor an s3:// address",
            code=Code.SETTINGS_INVALID,
            next_step="give a folder that all processes share, or s3://bucket/prefix",
        )
    return LocalStaging(await asyncio.to_thread(_shared_folder, settings.staging), shared=True)


def new_mark() -> str:
    """A mark that no other place has."""
    return uuid4().hex


def as_id(name: str) -> UUID | None:
    """The ingestion that a folder or a prefix is named for; None for what is not ours."""
    try:
        return UUID(name)
    except ValueError:
        return None


def _shared_folder(setting: str) -> Path:
    """The folder, once it was written to and marked; a missing one may be a volume that is not mounted, so it is not made."""
    folder = Path(setting).expanduser()
    probe = folder / f".apex-{uuid4().hex}"
    try:
        probe.touch(mode=0o600)
        probe.unlink()
        (folder / MARK).touch(mode=0o644)
    except OSError as error:
        raise Rejected(
            f"the folder of APEX_STAGING cannot be written to ({os.strerror(error.errno or 0)})",
            code=Code.SETTINGS_INVALID,
            next_step="make it, mount it, or give this process' user the right to write in it",
        ) from error
    return folder


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise disk_error(error) from error


def disk_error(error: OSError) -> Unavailable:
    """What a failure of a folder means."""
    if error.errno in _NO_ROOM:
        return Unavailable(
            "there is no room for the content where it is staged",
            code=Code.DISK_FULL,
            unchanged="nothing of it was stored",
            next_step="free space on that disk; the ingestion goes on by itself",
            retry_after_seconds=10,
        )
    return Unavailable(
        "the folder where content is staged does not answer",
        code=Code.STAGING_UNAVAILABLE,
        unchanged="nothing of it was stored",
        next_step="look after APEX_STAGING, or the data folder's disk; the ingestion goes on by itself",
        retry_after_seconds=10,
    )
