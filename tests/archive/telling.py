"""A small history: people and firms over three years, in several versions, with what rules and a model found."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from apex_mcp.ingestion.embedding.protocol import Embedder
from apex_mcp.ingestion.enriching.answers import Answers
from apex_mcp.models import ExtractedEntity, Extraction
from apex_mcp.stores.record.enrichments import End, Enriched, Link
from apex_mcp.stores.record.graph_rows import fact_id
from apex_mcp.stores.vectors.packing import pack
from tests.archive.memories import Kept
from tests.record.graphs import day, entity, fact, id_of, works_at
from tests.record.notes import claim, note, version


async def tell(
    kept: Kept,
    key: str,
    text: str,
    extraction: Extraction | None = None,
    *,
    dated: str = "",
    namespace: str = "default",
    embedder: Embedder | None = None,
    enrich: bool = False,
) -> UUID:
    """Commit a version that says this, in the index too; its id."""
    (id_,) = await kept.record.ingestions.accept([note(key, text, namespace)])
    token, _ = await claim(kept.record)
    (ingestion,) = await kept.record.ingestions.get([id_])
    made = replace(
        version(ingestion, token, text),
        extraction=extraction or Extraction(),
        document_time=day(dated) if dated else None,
        metadata={"year": 2024, "tags": ["a", "b"], "in": {"side": True}},
    )
    if embedder is not None:
        vectors = await embedder.embed_documents([chunk.text for chunk in made.chunks])
        made = replace(made, embedder=embedder.name, vectors=[pack(vector) for vector in vectors])
    await kept.commit(made, token, enrich=enrich)
    return made.id


async def told_by_model(kept: Kept, enriched: Enriched, answer: str) -> None:
    """The second commit of the version that waits for it."""
    (work,) = await kept.record.enrichments.claim(owner="me", limit=1, lease_seconds=60)
    await Answers(kept.record.enrichments, work).keep(f"key {answer}", [answer])
    assert await kept.record.enrichments.publish(work.version_id, work.claim, enriched)


async def tell_history(
    kept: Kept, *, embedder: Embedder | None = None, namespace: str = "default"
) -> list[datetime]:
    """Fill a memory; the moments between the parts of its history."""
    moments: list[datetime] = []

    async def say(
        key: str, text: str, extraction: Extraction | None = None, dated: str = "", **more: bool
    ) -> None:
        await tell(kept, key, text, extraction, dated=dated, namespace=namespace, embedder=embedder, **more)
        moments.append(datetime.now(UTC))

    acme = entity("ACME Corp.", "Organization", "Acme")
    await say("staff", "Ann works at Initech.", works_at("Ann", "Initech", since="2022-01-01"), "2022-01-01")
    await say("firms", "ACME Corp. is called Acme.", Extraction(entities=(acme,)))
    await say(
        "staff",
        "Ann works at ACME Corporation.",
        works_at("Ann", "ACME Corporation", since="2023-05-01"),
        "2023-05-01",
    )
    await say("plain", "A note about herons.")
    await say(
        "letter", "Bob leads Initech no longer.", Extraction(entities=(entity("Bob", "Person"),)), enrich=True
    )
    leads = fact("Bob", "leads", "Initech", since="2021-01-01")
    quits = fact("Bob", "quits", "Initech", since="2024-02-01")
    found = Extraction(
        entities=(entity("Robert", "Person"), entity("Bob", "Person"), entity("Initech")),
        facts=(leads, quits),
    )
    end = End(by_id=fact_id(namespace, quits), ended_id=fact_id(namespace, leads), at=day("2024-02-01"))
    links = (
        Link(name="Robert", other_id=id_of("Bob", namespace), reason="model"),
        Link(name="Robert", other_id=id_of("Ann", namespace), reason="different"),
    )
    await told_by_model(
        kept, Enriched(extraction=found, links=links, ends=(end,), usage={"requests": 1}), "bob"
    )
    moments.append(datetime.now(UTC))
    await kept.record.splits.split(
        namespace, id_of("ACME Corp.", namespace), id_of("ACME Corporation", namespace)
    )
    moments.append(datetime.now(UTC))
    if embedder is not None:
        (vector,) = await embedder.embed_documents(["Bob"])
        await kept.record.name_vectors.keep(embedder.name, {id_of("Bob", namespace): pack(vector)})
    return moments


def named(*names: str) -> Extraction:
    return Extraction(
        entities=tuple(ExtractedEntity(name=name, type="Organization", chunks=(0,)) for name in names)
    )
