"""A large memory in little time: written by the record's and the index's own interfaces, without parser and worker.

What searches read is what an ingestion would have left there. The vectors are made up: a local model would need half
an hour for 100,000 passages. They lie in clusters, as those of texts do.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.ingestion.embedding.models import find_model
from apex_mcp.ingestion.indexing import IndexKeeper
from apex_mcp.models import (
    Chunk,
    ExtractedEntity,
    Extraction,
    IndexPoint,
    IngestionRequest,
    Lane,
    ParsedDocument,
    Place,
    SourceType,
)
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.stores.record import Record, open_record
from apex_mcp.stores.record.versions import NewVersion
from apex_mcp.stores.vectors.edge_home import EdgeHome
from apex_mcp.stores.vectors.packing import pack, unit
from benchmarks.texts import Texts

_NAMESPACE = "default"
_CHUNKS_IN_A_DOCUMENT = 20
_SENTENCES_IN_A_CHUNK = 7
_DOCUMENTS_TOGETHER = 50
_CLUSTERS = 400
_SPREAD = 0.6
_TOKENS_IN_A_CHUNK = 150
_LEASE_SECONDS = 60.0


class Vectors:
    """Unit vectors around some hundred centres.

    Args:
        embedder: whose vectors they pretend to be.
        dimension: of each.
    """

    def __init__(self, embedder: str, dimension: int) -> None:
        self.embedder = embedder
        self.dimension = dimension
        self._random = random.Random(7)
        self._centres = [self._around([0.0] * dimension, 1.0) for _ in range(_CLUSTERS)]

    def next(self) -> list[float]:
        # As long as the centre is 1, a noise of this length is as far away as unrelated texts of one topic are.
        return unit(self._around(self._random.choice(self._centres), _SPREAD))

    def _around(self, centre: list[float], length: float) -> list[float]:
        step = length / self.dimension**0.5
        gauss = self._random.gauss
        return [value + gauss(0.0, step) for value in centre]


def vectors_of(model: Path) -> Vectors:
    """Vectors that pass for those of a local model."""
    return Vectors(find_model(str(model), model).identity, 384)


async def fill(home: Path, chunks: int, vectors: Vectors | None) -> None:
    """Write so many passages into the empty data folder `home`, on which no daemon runs."""
    folder = DataFolder(home).prepare()
    async with AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(folder)
        stack.push_async_callback(postgres.stop)
        record = await stack.enter_async_context(open_record(await postgres.start()))
        if vectors is not None:
            await record.index_log.set_embedder(vectors.embedder)
        keeper = await IndexKeeper.open(record=record, home=EdgeHome(folder.vectors), embedder=None)
        stack.push_async_callback(keeper.close)
        if vectors is not None:
            await keeper.vectors.enable_dense(vectors.embedder, vectors.dimension)
        for requests in batches(list(_requests(chunks // _CHUNKS_IN_A_DOCUMENT)), _DOCUMENTS_TOGETHER):
            await _write(record, keeper, requests, vectors)
        await keeper.vectors.flush(await record.index_log.position())


def _requests(documents: int) -> Iterator[IngestionRequest]:
    texts = Texts(seed=8)
    for number in range(documents):
        key = f"book-{number}"
        paragraphs = [texts.paragraph(_SENTENCES_IN_A_CHUNK) for _ in range(_CHUNKS_IN_A_DOCUMENT)]
        yield IngestionRequest(
            namespace=_NAMESPACE,
            key=key,
            source_type=SourceType.INLINE,
            lane=Lane.FAST,
            fingerprint=key,
            title=f"Book {number}",
            uri=f"apex://documents/{ids.document_id(_NAMESPACE, key)}",
            text="\n\n".join(paragraphs),
        )


async def _write(
    record: Record, keeper: IndexKeeper, requests: Sequence[IngestionRequest], vectors: Vectors | None
) -> None:
    accepted = await record.ingestions.accept(requests)
    claim, _ = await record.outbox.claim(
        owner="filling", lane=Lane.FAST, bulk=False, limit=len(requests), lease_seconds=_LEASE_SECONDS
    )
    versions = [
        _version(request, ingestion_id, claim, vectors)
        for request, ingestion_id in zip(requests, accepted, strict=True)
    ]
    points = [point for version, found in versions for point in _points(version, found)]
    await keeper.vectors.upsert(points)
    await record.versions.commit([version for version, _ in versions], claim)


def _version(
    request: IngestionRequest, ingestion_id: UUID, claim: UUID, vectors: Vectors | None
) -> tuple[NewVersion, list[list[float]] | None]:
    text = request.text or ""
    document_id = ids.document_id(request.namespace, request.key)
    chunks: list[Chunk] = []
    start = 0
    for ordinal, paragraph in enumerate(text.split("\n\n")):
        place = Place(start=start, end=start + len(paragraph))
        chunks.append(Chunk(ordinal=ordinal, text=paragraph, place=place, tokens=_TOKENS_IN_A_CHUNK))
        start = place.end + 2
    found = [vectors.next() for _ in chunks] if vectors is not None else None
    version = NewVersion(
        id=ids.version_id(document_id, ingestion_id, claim),
        ingestion_id=ingestion_id,
        document_id=document_id,
        namespace=request.namespace,
        content_hash=request.fingerprint,
        title=request.title,
        uri=request.uri,
        source_type=request.source_type,
        document_time=None,
        metadata={},
        parsed=ParsedDocument(text=text, title=request.title, media_type="text/plain"),
        chunks=chunks,
        extraction=Extraction(
            entities=(ExtractedEntity(name=request.title, type="Work", chunks=(0,)),),
        ),
        embedder=vectors.embedder if vectors is not None else None,
        vectors=[pack(vector) for vector in found] if found is not None else None,
    )
    return version, found


def _points(version: NewVersion, vectors: list[list[float]] | None) -> Iterator[IndexPoint]:
    for chunk, vector in zip(version.chunks, vectors or [None] * len(version.chunks), strict=True):
        yield IndexPoint(
            id=version.chunk_id(chunk.ordinal),
            namespace=version.namespace,
            version_id=version.id,
            document_id=version.document_id,
            text=chunk.text,
            source_type=version.source_type,
            media_type=version.parsed.media_type,
            document_time=None,
            metadata={},
            dense=vector,
        )
