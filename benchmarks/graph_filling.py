"""A large graph in the record in little time: rows as commits would have left them, copied into the tables.

The last documents are left to be committed as every other is, so that the rate of that is known too.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID, uuid4

from apex_mcp import ids
from apex_mcp.batches import batches
from apex_mcp.models import (
    Chunk,
    ExtractedEntity,
    ExtractedFact,
    Extraction,
    IngestionRequest,
    Lane,
    ParsedDocument,
    Place,
    SourceType,
)
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.database import Connection
from apex_mcp.stores.record.graph_rows import GraphRows
from apex_mcp.stores.record.versions import NewVersion

NAMESPACE = "default"
_ENTITIES_IN_A_DOCUMENT = 50
_FACTS_IN_A_CHUNK = 10
_TOKENS_IN_A_CHUNK = 100
_COPIED_TOGETHER = 100
_COMMITTED_TOGETHER = 10
_LEASE_SECONDS = 600.0
_FIRST = ("Anna", "Bela", "Cem", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivo", "Jana", "Kemal", "Lena")
_PREDICATES = ("works_at", "knows", "owns", "visited", "supplies", "wrote", "located_in", "member_of")

_COPY: dict[str, LiteralString] = {
    "documents": "COPY documents (id, namespace, key) FROM STDIN",
    "ingestions": (
        "COPY ingestions (id, namespace, document_id, request, fingerprint, lane, bulk, state, step, finished_at) FROM STDIN"
    ),
    "versions": (
        "COPY versions (id, document_id, namespace, ingestion_id, ingestion_seq, number, content_hash, title, uri, source_type, "
        "media_type, metadata, warnings, chunk_count, revision_from, committed_at) FROM STDIN"
    ),
    "chunks": (
        "COPY chunks (id, version_id, ordinal, text, start_offset, end_offset, heading_path, tokens) FROM STDIN"
    ),
    "entities": "COPY entities (id, namespace, normalised, core) FROM STDIN",
    "entity_sources": (
        "COPY entity_sources (entity_id, version_id, name, type, aliases, alias_keys, chunk_ids) FROM STDIN"
    ),
    "facts": "COPY facts (id, namespace, subject_id, predicate, object_id, object_text) FROM STDIN",
    "fact_sources": "COPY fact_sources (fact_id, version_id, chunk_id, sentence) FROM STDIN",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the graph is to be.

    Attributes:
        entities: number of them.
        facts: of each entity, to others anywhere; a few of these are in many.
    """

    entities: int
    facts: int

    @property
    def everything(self) -> int:
        return self.entities * (1 + self.facts)

    def __str__(self) -> str:
        return f"{self.entities:,} entities and {self.entities * self.facts:,} facts"


def name_of(number: int) -> str:
    """The name of an entity."""
    return f"{_FIRST[number % len(_FIRST)]} Family{number // len(_FIRST)}"


def documents(size: Size) -> Iterator[tuple[str, Extraction]]:
    """Every document's key, and what it names and states: fifty entities, and facts from each to others."""
    chance = random.Random(11)
    for first in range(0, size.entities, _ENTITIES_IN_A_DOCUMENT):
        named = range(first, min(first + _ENTITIES_IN_A_DOCUMENT, size.entities))
        facts: dict[tuple[int, str, int], ExtractedFact] = {}
        for one in named:
            while len(facts) < (one - first + 1) * size.facts:
                predicate = _PREDICATES[len(facts) % len(_PREDICATES)]
                other = int(size.entities * chance.random() ** 2)
                if (one, predicate, other) in facts:
                    continue
                facts[one, predicate, other] = ExtractedFact(
                    subject=name_of(one),
                    predicate=predicate,
                    object=name_of(other),
                    sentence=f"{name_of(one)} and {name_of(other)}.",
                    chunk=len(facts) // _FACTS_IN_A_CHUNK,
                )
        chunks: dict[int, set[int]] = {one: set() for one in named}
        for (one, _, other), fact in facts.items():
            chunks[one].add(fact.chunk)
            chunks.setdefault(other, set()).add(fact.chunk)
        yield (
            f"book-{first}",
            Extraction(
                entities=tuple(
                    ExtractedEntity(name=name_of(one), type="Person", chunks=tuple(sorted(some)))
                    for one, some in chunks.items()
                ),
                facts=tuple(facts.values()),
            ),
        )


def _chunks(said: Extraction) -> tuple[Chunk, ...]:
    """The passages that the facts were found in."""
    texts: dict[int, list[str]] = {}
    for fact in said.facts:
        texts.setdefault(fact.chunk, []).append(fact.sentence)
    chunks: list[Chunk] = []
    start = 0
    for ordinal, sentences in texts.items():
        text = " ".join(sentences)
        place = Place(start=start, end=start + len(text))
        chunks.append(Chunk(ordinal=ordinal, text=text, place=place, tokens=_TOKENS_IN_A_CHUNK))
        start = place.end + 1
    return tuple(chunks)


async def copy(record: Record, every: Iterable[tuple[str, Extraction]]) -> None:
    """Write documents into a record that has none, as the first revision's."""
    now = datetime.now(UTC)
    known: set[str] = set()
    async with record.database.transaction() as connection:
        # Whoever begins with the next commit finds them complete.
        await connection.execute("INSERT INTO namespaces (name, revision) VALUES (%s, 1)", (NAMESPACE,))
        await connection.execute("INSERT INTO revisions (namespace, revision) VALUES (%s, 1)", (NAMESPACE,))
        for number, some in enumerate(batches(list(every), _COPIED_TOGETHER)):
            rows = _rows(some, known, number * _COPIED_TOGETHER, now)
            for table, statement in _COPY.items():
                await _copy(connection, statement, rows[table])
        await connection.execute(
            "UPDATE versions v SET ingestion_seq = i.seq FROM ingestions i WHERE i.id = v.ingestion_id"
        )
    async with record.database.connection() as connection:
        await connection.execute("VACUUM ANALYZE")


async def _copy(connection: Connection, statement: LiteralString, rows: Iterable[Sequence[Any]]) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copying:
        for row in rows:
            await copying.write_row(row)


def _rows(
    some: Sequence[tuple[str, Extraction]], known: set[str], first: int, now: datetime
) -> dict[str, list[Sequence[Any]]]:
    rows: dict[str, list[Sequence[Any]]] = {table: [] for table in _COPY}
    for place, (key, said) in enumerate(some, start=first):
        document, ingestion = ids.document_id(NAMESPACE, key), uuid4()
        version = ids.version_id(document, ingestion, ingestion)
        graph = GraphRows()
        graph.add(NAMESPACE, version, said)
        chunks = _chunks(said)
        rows["documents"].append((document, NAMESPACE, key))
        rows["ingestions"].append((
            ingestion,
            NAMESPACE,
            document,
            "{}",
            key,
            str(Lane.FAST),
            False,
            "ready",
            "published",
            now,
        ))
        rows["versions"].append(
            (version, document, NAMESPACE, ingestion, place, 1, key, key, "apex://bench", str(SourceType.INLINE),
             "text/plain", "{}", "[]", len(chunks), 1, now)
        )  # fmt: skip
        rows["chunks"].extend(
            (ids.chunk_id(version, one.ordinal), version, one.ordinal, one.text, one.place.start, one.place.end,
             "[]", one.tokens)
            for one in chunks
        )  # fmt: skip
        for one in graph.entities:
            if one["id"] not in known:
                known.add(one["id"])
                rows["entities"].append((one["id"], NAMESPACE, one["normalised"], one["core"]))
            rows["entity_sources"].append((
                one["id"],
                version,
                one["name"],
                one["type"],
                [],
                [],
                [UUID(chunk) for chunk in one["chunk_ids"]],
            ))
        for one in graph.facts:
            rows["facts"].append((
                one["id"],
                NAMESPACE,
                one["subject_id"],
                one["predicate"],
                one["object_id"],
                one["object_text"],
            ))
            rows["fact_sources"].append((one["id"], version, one["chunk_id"], one["sentence"]))
    return rows


async def commit(record: Record, every: Iterable[tuple[str, Extraction]]) -> None:
    """Write documents as ingestions do."""
    for some in batches(list(every), _COMMITTED_TOGETHER):
        requests = [_request(key) for key, _ in some]
        accepted = await record.ingestions.accept(requests)
        claim, _ = await record.outbox.claim(
            owner="filling", lane=Lane.FAST, bulk=False, limit=len(requests), lease_seconds=_LEASE_SECONDS
        )
        versions = [
            _version(request, ingestion_id, claim, said)
            for request, ingestion_id, (_, said) in zip(requests, accepted, some, strict=True)
        ]
        await record.versions.commit(versions, claim)


def _text(said: Extraction) -> str:
    return " ".join(fact.sentence for fact in said.facts)


def _request(key: str) -> IngestionRequest:
    return IngestionRequest(
        namespace=NAMESPACE,
        key=key,
        source_type=SourceType.INLINE,
        lane=Lane.FAST,
        fingerprint=key,
        text=key,
    )


def _version(request: IngestionRequest, ingestion_id: UUID, claim: UUID, said: Extraction) -> NewVersion:
    document_id = ids.document_id(request.namespace, request.key)
    text = _text(said)
    return NewVersion(
        id=ids.version_id(document_id, ingestion_id, claim),
        ingestion_id=ingestion_id,
        document_id=document_id,
        namespace=request.namespace,
        content_hash=request.fingerprint,
        title=request.key,
        uri="apex://bench",
        source_type=request.source_type,
        document_time=None,
        metadata={},
        parsed=ParsedDocument(text=text, title=request.key, media_type="text/plain"),
        chunks=_chunks(said),
        extraction=said,
    )
