"""From the record to an archive."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from apex_mcp import __version__
from apex_mcp.archiving.container import ContainerWriter, MemberWriter
from apex_mcp.archiving.lines import FORMAT, VERSION
from apex_mcp.archiving.originals import Originals
from apex_mcp.stores.record.archive_rows import ArchiveRows, Page
from apex_mcp.stores.record.tombstones import ForgetKey, Tombstone

_OF_VERSIONS = ("versions", "chunks", "vectors", "entities", "facts", "answers", "links", "ends")


class Exporter:
    """Writes one snapshot of the record into one archive.

    Attributes:
        counts: lines of each kind, once they are written.

    Args:
        rows: the snapshot.
        forgotten: what was, without saying what.
        originals: adds files; or None.
        past: replaced versions go along.
    """

    def __init__(
        self,
        rows: ArchiveRows,
        *,
        forgotten: tuple[Sequence[ForgetKey], Sequence[Tombstone]],
        originals: Originals | None,
        past: bool,
    ) -> None:
        self.counts: dict[str, int] = {}
        self._rows = rows
        self._forgotten = forgotten
        self._originals = originals
        self._past = past
        self._first_arrivals: dict[str, int] = {}

    async def write(self, writer: ContainerWriter) -> AsyncGenerator[tuple[int, int]]:
        """Write everything; yields how far it is, and of how much.

        Raises:
            Unavailable: the record does not answer, or the disk is full.
        """
        rows = self._rows
        total = rows.versions * (len(_OF_VERSIONS) + (self._originals is not None))
        if self._originals is not None:
            async for behind, page in rows.of_versions("originals"):
                await self._originals.add(writer, page)
                yield behind, total
        for kind in ("namespaces", "revisions"):
            await self._whole(writer, kind)
        for place, kind in enumerate(_OF_VERSIONS, start=int(self._originals is not None)):
            with writer.member(f"{kind}.jsonl") as member:
                async for behind, page in rows.of_versions(kind):
                    await asyncio.to_thread(self._put, member, kind, page)
                    yield place * rows.versions + behind, total
            self.counts[kind] = member.told()["lines"]
        for kind in ("splits", "name_vectors"):
            await self._whole(writer, kind)
        with writer.member("tombstones.jsonl") as member:
            keys, tombstones = self._forgotten
            secrets = {key.id: b64encode(key.secret).decode() for key in keys}
            for one in tombstones:
                member.line({
                    "key": str(one.key_id),
                    "secret": secrets[one.key_id],
                    "digest": b64encode(one.digest).decode(),
                    "kind": one.kind,
                    "forgotten_at": _plain(one.forgotten_at),
                })
        self.counts["tombstones"] = member.told()["lines"]
        yield total, total

    def manifest(self) -> dict[str, Any]:
        """What the archive is, beside its members."""
        rows = self._rows
        return {
            "format": FORMAT,
            "version": VERSION,
            "made_with": f"apex-mcp {__version__}",
            "made_at": datetime.now(UTC).isoformat(),
            "namespaces": rows.namespaces,
            "past": self._past,
            "embedder": rows.embedder,
            "counts": {"documents": rows.documents, **self.counts},
            "pending_ingestions": rows.pending_ingestions,
            "originals": self._originals.told() if self._originals is not None else None,
        }

    async def _whole(self, writer: ContainerWriter, kind: str) -> None:
        with writer.member(f"{kind}.jsonl") as member:
            async for page in self._rows.of_namespaces(kind):
                await asyncio.to_thread(self._put, member, kind, page)
        self.counts[kind] = member.told()["lines"]

    def _put(self, member: MemberWriter, kind: str, page: Page) -> None:
        for row in page:
            if kind == "namespaces":
                self._first_arrivals[row["name"]] = row.pop("first") or 0
            elif kind == "entities":
                row["arrival"] -= self._first_arrivals[row.pop("namespace")]
            elif kind == "versions":
                row["original"] = self._originals.hashes.get(row["id"]) if self._originals else None
            member.line({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, UUID | StrEnum):
        return str(value)
    return value
