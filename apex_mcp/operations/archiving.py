"""Archives: a memory as one file that can be taken along, and into another memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from pathlib import Path

from apex_mcp.archiving.container import ContainerWriter
from apex_mcp.archiving.exporting import Exporter
from apex_mcp.archiving.importing import Importer
from apex_mcp.archiving.originals import Originals
from apex_mcp.archiving.reading import ArchiveReader
from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, Code, InputError, Rejected
from apex_mcp.ingestion.accepting import check_namespace
from apex_mcp.ingestion.room import require_room
from apex_mcp.operations.base import Operations
from apex_mcp.stores.record.archive_rows import archive_rows
from apex_mcp.views import ExportStep, ExportView, ImportStep, ImportView

_CHECKED_AT_ONCE = 256


class Archiving(Operations):
    """For the command line only, whose user types the paths: no tool reads or writes a file of its caller's choice."""

    async def export_archive(
        self,
        caller: Caller,
        *,
        path: Path,
        namespace: str | None = None,
        originals: bool = False,
        past: bool = True,
        force: bool = False,
    ) -> AsyncIterator[ExportStep]:
        """Write an archive of one namespace, or of all; yields how far it is, and at last what is in it.

        Raises:
            Conflict: there is a file already (`file_exists`).
            NotFound: there is no such namespace.
            InputError: nothing can be written there.
            Unavailable: the record does not answer, or the disk is full; no file is left.
        """
        _require_vouched(caller, path)
        name = check_namespace(namespace) if namespace is not None else None
        with await asyncio.to_thread(ContainerWriter, path, force=force) as writer:
            # Before the snapshot: what is forgotten meanwhile may be in it.
            total = 0
            noted = await self._record.archives.note("export", path.name, name)
            try:
                files = Originals(self._record.ingestions, max_bytes=self._settings.max_file_bytes)
                async with archive_rows(self._record.database, name, past=past) as rows:
                    exporter = Exporter(
                        rows,
                        forgotten=await self._record.tombstones.keys_and_tombstones(),
                        originals=files if originals else None,
                        past=past,
                    )
                    async for done, total in exporter.write(writer):
                        yield ExportStep(done=done, total=total)
                size = await asyncio.to_thread(writer.finish, exporter.manifest())
            except BaseException:
                with suppress(ApexError):
                    await asyncio.shield(self._record.archives.withdraw(noted))
                raise
        yield ExportStep(
            done=total,
            total=total,
            archive=ExportView(
                path=str(path),
                bytes=size,
                namespaces=rows.namespaces,
                documents=rows.documents,
                versions=rows.versions,
                pending_ingestions=rows.pending_ingestions,
                originals=len(files.hashes) if originals else None,
                originals_missing=files.missing if originals else None,
            ),
        )

    async def import_archive(
        self, caller: Caller, *, path: Path, into: str | None = None
    ) -> AsyncIterator[ImportStep]:
        """Check an archive, then store what is not here yet; yields how far it is, and at last what came of it.

        Raises:
            InputError: it is no archive, or damaged; nothing was stored.
            Conflict: a newer apex-mcp made it, or another import is under way; nothing was stored.
            Unavailable: a store does not answer, or the disk is full; the same call carries on.
        """
        _require_vouched(caller, path)
        name = check_namespace(into) if into is not None else None
        async with self._opened(path) as reader:
            # One that no disk here can take is refused before any of it is stored.
            require_room(self._home, reader.container.total_bytes)
            total = reader.container.total_bytes
            checking, done = reader.check(), 0
            while pieces := await asyncio.to_thread(_some, checking):
                done += sum(pieces)
                yield ImportStep(what="checking", done=done, total=total)
            importer = Importer(
                self._record,
                self._index,
                reader,
                into=name,
                require_room=lambda: require_room(self._home),
            )
            versions = reader.container.lines_of("versions.jsonl")
            async for stored in importer.run():
                yield ImportStep(what="storing", done=stored, total=versions)
        tally = importer.tally
        embedder = self._index.embedder_name
        yield ImportStep(
            what="storing",
            done=versions,
            total=versions,
            result=ImportView(
                namespaces=importer.namespaces,
                documents={str(fate): number for fate, number in tally.documents.items()},
                versions=tally.versions,
                times_kept=tally.times_kept,
                waiting_for_vectors=await self._record.passage_vectors.count_owed(embedder)
                if embedder
                else None,
            ),
        )

    @asynccontextmanager
    async def _opened(self, path: Path) -> AsyncGenerator[ArchiveReader]:
        reader = await asyncio.to_thread(ArchiveReader, path, max_text_chars=self._settings.max_text_chars)
        with reader:
            yield reader


def _some(pieces: Iterator[int]) -> list[int]:
    return list(islice(pieces, _CHECKED_AT_ONCE))


def _require_vouched(caller: Caller, path: Path) -> None:
    if not caller.vouched:
        raise Rejected(
            "archives are for the command line",
            code=Code.UNAUTHORIZED,
            next_step="run `apex-mcp export` or `apex-mcp import`",
        )
    if not path.is_absolute() or not path.name:
        raise InputError("the path must be absolute", next_step="name the file by its whole path")
