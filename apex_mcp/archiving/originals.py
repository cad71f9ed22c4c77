"""The files that documents came from, where they still are and still hold what was ingested."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from apex_mcp.archiving.container import ContainerWriter
from apex_mcp.archiving.lines import ORIGINALS
from apex_mcp.errors import ApexError
from apex_mcp.ingestion.drafts import given_with
from apex_mcp.ingestion.sources.local import read_file
from apex_mcp.stores.record.ingestions import Ingestion, IngestionStore
from apex_mcp.stores.record.requests import path_to_read, request_of
from apex_mcp.stores.record.versions import content_hash

# The manifest names so many that are missing, and counts the others.
_MOST_NAMED = 1000


class Originals:
    """Adds them to an archive, each once.

    Attributes:
        hashes: SHA-256 of the file of each version whose file was added.
        missing: number of files that were not.
        named: the first of those: namespace and key of the document, and why.

    Args:
        ingestions: say where files were.
        max_bytes: of one file.
    """

    def __init__(self, ingestions: IngestionStore, *, max_bytes: int) -> None:
        self.hashes: dict[UUID, str] = {}
        self.missing = 0
        self.named: list[dict[str, str]] = []
        self._ingestions = ingestions
        self._max_bytes = max_bytes
        self._added: set[str] = set()

    async def add(self, writer: ContainerWriter, page: Sequence[dict[str, Any]]) -> None:
        """Add the files of some versions."""
        found = {one.id: one for one in await self._ingestions.get([row["ingestion_id"] for row in page])}
        for row in page:
            if (ingestion := found.get(row["ingestion_id"])) is not None:
                await asyncio.to_thread(self._add, writer, ingestion, row["id"], row["content_hash"])

    def told(self) -> dict[str, Any]:
        """What the manifest says of them."""
        return {"files": len(self._added), "missing": self.missing, "named": self.named}

    def _add(self, writer: ContainerWriter, ingestion: Ingestion, version_id: UUID, wanted: str) -> None:
        path = path_to_read(ingestion)
        try:
            if path is None:
                self._miss(ingestion, "it was uploaded, and is not kept")
                return
            data, digest = read_file(Path(path), max_bytes=self._max_bytes)
        except ApexError as error:
            self._miss(ingestion, str(error.code))
            return
        if content_hash(digest, given_with(request_of(ingestion, None))) != wanted:
            self._miss(ingestion, "it has changed")
            return
        self.hashes[version_id] = digest
        if digest not in self._added:
            self._added.add(digest)
            with writer.member(f"{ORIGINALS}{digest}") as member:
                member.write(data)

    def _miss(self, ingestion: Ingestion, reason: str) -> None:
        self.missing += 1
        if len(self.named) < _MOST_NAMED:
            self.named.append({"namespace": ingestion.namespace, "key": ingestion.key, "reason": reason})
