"""Short ways to commit what a text names and states, to read it back, and to let a model add to it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from apex_mcp import ids
from apex_mcp.models import Chunk, ExtractedEntity, ExtractedFact, Extraction, Place
from apex_mcp.presenting import present_entities
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.enrichments import Enriched, Enrichment
from apex_mcp.stores.record.graph_changes import note_entities
from apex_mcp.stores.record.in_use import set_read_by_model
from apex_mcp.stores.record.name_vectors import keep_name_vectors
from apex_mcp.views import EntityView
from tests.record.notes import claim, note, version


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def entity(name: str, type_: str = "Organization", *aliases: str) -> ExtractedEntity:
    return ExtractedEntity(name=name, type=type_, aliases=aliases, chunks=(0,))


def fact(subject: str, predicate: str, object_: str, *, since: str = "", until: str = "") -> ExtractedFact:
    return ExtractedFact(
        subject=subject,
        predicate=predicate,
        object=object_,
        sentence=f"{subject} {predicate} {object_}",
        chunk=0,
        valid_at=day(since) if since else None,
        invalid_at=day(until) if until else None,
    )


def works_at(person: str, company: str, *, since: str = "") -> Extraction:
    return Extraction(
        entities=(entity(person, "Person"), entity(company)),
        facts=(fact(person, "works_at", company, since=since),),
    )


async def tell(
    record: Record,
    key: str,
    extraction: Extraction,
    *,
    dated: str = "",
    text: str = "",
    enrich: bool = False,
    namespace: str = "default",
    passages: Sequence[str] = (),
) -> UUID:
    """Commit a version that says this, in one passage or in these; its id."""
    words = text or f"{key} {hash(extraction)}"
    (ingestion_id,) = await record.ingestions.accept([note(key, words, namespace)])
    token, _ = await claim(record)
    (ingestion,) = await record.ingestions.get([ingestion_id])
    made = replace(
        version(ingestion, token, words), extraction=extraction, document_time=day(dated) if dated else None
    )
    if passages:
        made = replace(
            made,
            chunks=[
                Chunk(ordinal=number, text=passage, place=Place(start=0, end=1), tokens=len(passage.split()))
                for number, passage in enumerate(passages)
            ],
        )
    await set_read_by_model(record.database, enrich)
    result = await record.versions.commit([made], token)
    assert result.lost == []
    return made.id


async def forget(record: Record, version_id: UUID) -> None:
    """What forgetting a document will do to a version: invisible first, then its rows go."""
    async with record.database.connection() as connection:
        await connection.execute("UPDATE versions SET tombstoned_at = now() WHERE id = %s", (version_id,))
    await record.purges.delete_rows([version_id])


async def look(
    record: Record,
    query: str,
    *,
    as_of: str = "",
    known_at: datetime | None = None,
    namespace: str = "default",
) -> list[EntityView]:
    """What get_entities shows."""
    async with record.reader.view(namespace, known_at=known_at) as view:
        rows = await view.find_entities(query=query, entity_id=None, type_=None, limit=10)
        shown = [row["id"] for row in rows]
        facts, sources = await view.facts_of(shown, limit=500), await view.sources_of(shown)
    return present_entities(rows, facts, sources, as_of=day(as_of) if as_of else datetime.now(UTC))


def names(views: Sequence[EntityView]) -> list[str]:
    return [view.name for view in views]


def objects(view: EntityView) -> list[tuple[str, bool]]:
    """Each fact's object, and whether it holds."""
    return [(one.object, one.current) for one in view.facts]


def id_of(name: str, namespace: str = "default") -> UUID:
    return ids.entity_id(namespace, name)


async def keep_vectors(
    record: Record, embedder: str, vectors: Mapping[UUID, bytes], namespace: str = "default"
) -> None:
    """As a second commit keeps vectors of the names that it publishes."""
    async with record.database.transaction() as connection:
        await keep_name_vectors(connection, embedder, vectors)
        await note_entities(connection, namespace, list(vectors))


async def begin(record: Record) -> Enrichment:
    (work,) = await record.enrichments.claim(owner="me", limit=1, lease_seconds=60)
    return work


async def enrich(record: Record, extraction: Extraction) -> Enrichment:
    """A model finds this in the version that waits."""
    work = await begin(record)
    enriched = Enriched(extraction=extraction, usage={"requests": 1})
    assert await record.enrichments.publish(work.version_id, work.claim, enriched)
    return work
