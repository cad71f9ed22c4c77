"""Memories without a worker: what is in them is committed by hand, and taken along by the real operations."""

import asyncio
import hashlib
import json
import zipfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from apex_mcp.caller import Caller
from apex_mcp.ingestion.enriching.ontology import default_ontology
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.ingestion.staging import open_staging
from apex_mcp.ingestion.verifying import Verifier
from apex_mcp.memory import Memory
from apex_mcp.models import IndexPoint
from apex_mcp.settings import Settings
from apex_mcp.stores.bell import Bell
from apex_mcp.stores.graph.best import BestGraph
from apex_mcp.stores.graph.record_graph import RecordGraph
from apex_mcp.stores.health import Health
from apex_mcp.stores.progress import ProcessProgress
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.in_use import set_read_by_model
from apex_mcp.stores.record.index_log import flat_metadata, searchable
from apex_mcp.stores.record.versions import NewVersion
from apex_mcp.stores.vectors.edge_home import EdgeHome
from apex_mcp.stores.vectors.packing import unpack
from apex_mcp.views import ExportView, ImportView

USER = Caller(vouched=True)


@dataclass(frozen=True)
class Kept:
    """One memory."""

    record: Record
    keeper: IndexKeeper
    memory: Memory
    path: Path

    async def export(self, file: Path, **given: Any) -> ExportView:
        steps = [step async for step in self.memory.export_archive(USER, path=file, **given)]
        assert steps[-1].archive is not None
        return steps[-1].archive

    async def take_in(self, file: Path, **given: Any) -> ImportView:
        steps = [step async for step in self.memory.import_archive(USER, path=file, **given)]
        assert steps[-1].result is not None
        return steps[-1].result

    async def commit(self, version: NewVersion, claim: UUID, *, enrich: bool = False) -> None:
        """As the last step does it: points, then the record."""
        (ingestion,) = await self.record.ingestions.get([version.ingestion_id])
        points = [
            IndexPoint(
                id=version.chunk_id(chunk.ordinal),
                namespace=version.namespace,
                version_id=version.id,
                document_id=version.document_id,
                text=searchable(chunk.text, chunk.ordinal, version.title, chunk.place.heading_path),
                source_type=version.source_type,
                media_type=version.parsed.media_type,
                document_time=version.document_time or ingestion.accepted_at,
                metadata=flat_metadata(version.metadata),
                dense=unpack(version.vectors[chunk.ordinal]) if version.vectors else None,
            )
            for chunk in version.chunks
        ]
        await set_read_by_model(self.record.database, enrich)
        result = await self.keeper.commit(points, [version], claim)
        assert result.lost == []


@asynccontextmanager
async def kept(conninfo: str, path: Path, *, embedder: Any = None, **given: Any) -> AsyncGenerator[Kept]:
    """A memory in a database, with its index in a folder."""
    await asyncio.to_thread(path.mkdir, parents=True, exist_ok=True)
    settings, health = Settings(home=path, embedder="none", **given), Health()
    async with open_record(conninfo) as record:
        keeper = await IndexKeeper.open(record=record, home=EdgeHome(path / "vectors"), embedder=embedder)
        staging = await open_staging(settings, path / "staging", health)
        memory = Memory(
            ontology=default_ontology(),
            settings=settings,
            record=record,
            index=keeper,
            embedder=embedder,
            graph=BestGraph(RecordGraph(record.reader), record.graph_queue),
            progress=ProcessProgress(),
            bell=Bell(),
            health=health,
            staging=staging,
            verifier=Verifier(
                record=record,
                index=keeper,
                staging=staging,
                staging_ttl_seconds=settings.staging_ttl_seconds,
            ),
            answers=None,
        )
        try:
            yield Kept(record, keeper, memory, path)
        finally:
            await keeper.close()


def members(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def lines(file: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in members(file)[f"{kind}.jsonl"].splitlines()]


def rewrite(file: Path, changed: dict[str, bytes], *, honest: bool = True) -> Path:
    """The archive with other members; `honest` lets the manifest tell of them."""
    content = members(file) | changed
    manifest = json.loads(content.pop("manifest.json"))
    if honest:
        manifest["members"] = [
            {
                "name": name,
                "bytes": len(data),
                "lines": data.count(b"\n"),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for name, data in content.items()
        ]
        manifest["counts"] |= {
            name.removesuffix(".jsonl"): data.count(b"\n")
            for name, data in content.items()
            if name.endswith(".jsonl")
        }
    made = file.with_name(f"changed-{file.name}")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        archive.writestr("manifest.json", json.dumps(manifest))
    return made


def without_ids(file: Path) -> dict[str, list[Any]]:
    """What an archive says, without what differs between two memories that hold the same."""
    names = {
        line["id"]: f"{line['namespace']} {line['key']} {line['number']}" for line in lines(file, "versions")
    }
    found: dict[str, list[Any]] = {}
    for member in members(file):
        kind = member.removesuffix(".jsonl")
        if not member.endswith(".jsonl") or kind == "tombstones":
            continue
        found[kind] = [
            {
                name: names.get(value, value) if name in ("id", "version", "previous") else value
                for name, value in line.items()
            }
            for line in lines(file, kind)
        ]
    return found
