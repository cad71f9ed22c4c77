import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast
from uuid import UUID, uuid4

import numpy as np
import pytest

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding.protocol import Embedder, EmbedderState, Readiness
from apex_mcp.ingestion.enriching import resolution
from apex_mcp.ingestion.enriching.combining import combine
from apex_mcp.models import EnrichmentState, Extraction
from apex_mcp.presenting import present_ingestion
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.enrichments import Enriched, Link
from tests.record.graphs import (
    begin,
    enrich,
    entity,
    fact,
    forget,
    id_of,
    keep_vectors,
    look,
    names,
    tell,
    works_at,
)
from tests.record.notes import remember
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

FOUND = works_at("Ann Lee", "Globex")
DOWN = Unavailable("the model does not answer", code=Code.MODEL_UNAVAILABLE)
SPENT = Rejected("the budget is spent", code=Code.BUDGET_SPENT)


async def known_vectors(record: Record, type_: str, limit: int = 10) -> list[tuple[UUID, bytes]]:
    """All of them, page by page."""
    found: list[tuple[UUID, bytes]] = []
    last = None
    while page := await record.enrichments.known_vectors("default", "model", type_, after=last, limit=limit):
        assert len(page) <= limit
        found += page
        last = page[-1][0]
    return found


async def test_what_a_model_finds_shows_from_the_second_commit_on_and_not_before(record: Record) -> None:
    await tell(record, "one", Extraction(entities=(entity("Globex"),)), enrich=True)
    before = datetime.now(UTC)
    await enrich(record, FOUND)
    (globex,) = await look(record, "Globex")
    assert (globex.mentions, [one.predicate for one in globex.facts]) == (1, ["works_at"])
    (earlier,) = await look(record, "Globex", known_at=before)
    assert earlier.facts == []
    assert await look(record, "Ann Lee", known_at=before) == []
    async with record.reader.view("default", known_at=before) as view:
        assert await view.known_entities(["Ann Lee"]) == []
        assert await view.graph_counts() == {"entities": 1, "facts": 0}
    async with record.reader.view("default") as view:
        ((chunk, _),) = await view.chunks_naming([id_of("Ann Lee")], limit=5)
        assert (await view.hydrate([chunk]))[chunk]["entities"] == ["Ann Lee", "Globex"]
        assert await view.graph_counts() == {"entities": 2, "facts": 1}


async def test_a_version_without_a_model_owes_nothing_until_it_is_asked_for(record: Record) -> None:
    await remember(record, "one")
    assert await record.enrichments.claim(owner="me", limit=9, lease_seconds=60) == []
    assert (await record.enrichments.want("default"), await record.enrichments.want(None)) == (1, 0)
    assert await record.enrichments.counts() == {"pending": 1}
    work = await begin(record)
    text = await record.enrichments.text(work.version_id)
    assert (text.title, [one.text for one in text.passages]) == ("one", ["one"])
    assert text.reference_time is not None


async def test_a_second_claim_gets_only_what_is_left_and_takes_turns_over_namespaces(record: Record) -> None:
    for key, namespace in (("a", "busy"), ("b", "busy"), ("c", "busy"), ("d", "quiet")):
        await tell(record, key, Extraction(), enrich=True, namespace=namespace)
    first = await record.enrichments.claim(owner="me", limit=2, lease_seconds=60)
    assert [one.namespace for one in first] == ["busy", "quiet"]
    second = await record.enrichments.claim(owner="you", limit=9, lease_seconds=60)
    assert [one.namespace for one in second] == ["busy", "busy"]
    assert not {one.version_id for one in first} & {one.version_id for one in second}


async def test_a_new_version_that_commits_while_the_old_ones_enrichment_is_published_wins(
    record: Record,
) -> None:
    await tell(record, "one", Extraction(), enrich=True)
    work = await begin(record)
    published, _ = await asyncio.gather(
        record.enrichments.publish(work.version_id, work.claim, Enriched(extraction=FOUND)),
        tell(record, "one", Extraction(entities=(entity("Acme"),)), text="newer", enrich=True),
    )
    assert await look(record, "Ann Lee") == []
    assert names(await look(record, "Acme")) == ["Acme"]
    state = await record.database.fetch_one(
        "SELECT state FROM enrichments WHERE version_id = %s", (work.version_id,)
    )
    assert state == {"state": "done" if published else "superseded"}
    assert published or await record.database.fetch_all("SELECT 1 FROM fact_sources") == []


async def test_a_version_that_was_replaced_is_superseded_wherever_its_enrichment_stands(
    record: Record,
) -> None:
    for key in ("claimed", "waiting"):
        await tell(record, key, Extraction(), enrich=True)
    work = await begin(record)
    for key in ("claimed", "waiting"):
        await tell(record, key, Extraction(), text=f"newer {key}")
    assert await record.enrichments.owned(work.version_id, work.claim) is None
    assert not await record.enrichments.publish(work.version_id, work.claim, Enriched(extraction=FOUND))
    assert await record.enrichments.claim(owner="me", limit=9, lease_seconds=60) == []
    rows = await record.database.fetch_all("SELECT DISTINCT state FROM enrichments")
    assert rows == [{"state": "superseded"}]
    assert await record.database.fetch_all("SELECT 1 FROM entities") == []


async def test_a_lost_claim_publishes_nothing_and_a_repeated_call_changes_nothing(record: Record) -> None:
    await tell(record, "one", Extraction(), enrich=True)
    work = await begin(record)
    assert not await record.enrichments.publish(work.version_id, uuid4(), Enriched(extraction=FOUND))
    for _ in range(2):
        assert await record.enrichments.publish(work.version_id, work.claim, Enriched(extraction=FOUND))
    async with record.reader.view("default") as view:
        assert view.revision == 2


async def test_a_link_that_a_model_found_holds_for_all_that_the_other_is_one_with(record: Record) -> None:
    first = await tell(record, "one", Extraction(entities=(entity("Big Blue Corp."),)))
    await tell(record, "two", Extraction(entities=(entity("Big Blue Inc."),)))
    await tell(record, "three", Extraction(), enrich=True)
    work = await begin(record)
    link = Link(name="IBM", other_id=id_of("Big Blue Corp."), reason="model")
    found = Extraction(entities=(entity("IBM"),))
    assert await record.enrichments.publish(
        work.version_id, work.claim, Enriched(extraction=found, links=(link,))
    )
    (blue,) = await look(record, "IBM")
    assert [(one.name, one.reason) for one in blue.merged_from] == [
        ("Big Blue Inc.", "name"),
        ("IBM", "model"),
    ]
    await forget(record, first)
    (blue,) = await look(record, "IBM")
    assert (blue.name, [one.name for one in blue.merged_from]) == ("Big Blue Inc.", ["IBM"])
    await forget(record, work.version_id)
    assert await look(record, "IBM") == []


async def test_forgetting_a_version_takes_what_a_model_found_in_it(record: Record) -> None:
    kept = await tell(record, "one", works_at("Ann Lee", "Globex"))
    gone = await tell(record, "two", Extraction(), enrich=True)
    await enrich(
        record,
        Extraction(
            entities=(*FOUND.entities, entity("Initech")),
            facts=(*FOUND.facts, fact("Initech", "makes", "printers")),
        ),
    )
    await forget(record, gone)
    assert await look(record, "Initech") == []
    (ann,) = await look(record, "Ann Lee")
    assert [one.object for one in ann.facts] == ["Globex"]
    rows = await record.database.fetch_all("SELECT version_id FROM fact_sources")
    assert rows == [{"version_id": kept}]


async def test_one_that_failed_says_why_and_can_be_tried_again(record: Record) -> None:
    await tell(record, "one", Extraction(), enrich=True)
    work = await begin(record)
    await record.enrichments.fail(work.version_id, work.claim, SPENT)
    (ingestion,) = await record.ingestions.get([work.ingestion_id])
    view = present_ingestion(ingestion)
    assert (view.state, view.enrichment) == ("ready", EnrichmentState.FAILED)
    assert view.enrichment_failure is not None
    assert view.enrichment_failure.code == Code.BUDGET_SPENT
    assert view.failure is None
    assert await record.enrichments.retry(work.ingestion_id)
    assert not await record.enrichments.retry(work.ingestion_id)
    again = await begin(record)
    assert (again.version_id, again.attempts) == (work.version_id, 1)
    assert again.claim != work.claim


async def test_what_a_second_reading_finds_takes_the_place_of_the_first(record: Record) -> None:
    first = works_at("Jane Doe", "Acme"), works_at("Bob Ray", "Initech")
    await tell(record, "one", Extraction(), enrich=True)
    work = await begin(record)
    lacking = Enriched(extraction=combine(first), usage={"groups": 2, "groups_without_answer": 1})
    assert await record.enrichments.publish(work.version_id, work.claim, lacking)
    assert await record.enrichments.retry(work.ingestion_id)
    assert names(await look(record, "Bob Ray")) == ["Bob Ray"]
    again = await begin(record)
    second = combine([first[0], works_at("Ada King", "Globex")])
    assert await record.enrichments.publish(again.version_id, again.claim, Enriched(extraction=second))
    assert names(await look(record, "Ada King")) == ["Ada King"]
    assert names(await look(record, "Bob Ray")) == []
    left = await record.database.fetch_all("SELECT normalised FROM entities ORDER BY 1")
    assert [row["normalised"] for row in left] == ["acme", "ada king", "globex", "jane doe"]
    assert len(await record.database.fetch_all("SELECT 1 FROM facts")) == 2


async def test_one_that_waits_for_its_provider_is_not_claimed_before_its_time(record: Record) -> None:
    await tell(record, "one", Extraction(), enrich=True)
    work = await begin(record)
    await record.enrichments.wait(work.version_id, work.claim, DOWN, seconds=3600)
    assert await record.enrichments.claim(owner="me", limit=9, lease_seconds=60) == []
    (ingestion,) = await record.ingestions.get([work.ingestion_id])
    assert present_ingestion(ingestion).enrichment_failure is not None
    async with record.database.connection() as connection:
        await connection.execute("UPDATE enrichments SET not_before = now()")
    assert (await begin(record)).attempts == 2


@pytest.mark.parametrize("asked", ["retry", "want"])
async def test_one_that_a_provider_put_off_is_tried_at_once_when_that_is_asked_for(
    record: Record, asked: str
) -> None:
    await tell(record, "one", Extraction(), enrich=True)
    work = await begin(record)
    await record.enrichments.wait(work.version_id, work.claim, DOWN, seconds=3600)
    if asked == "retry":
        assert await record.enrichments.retry(work.ingestion_id)
    else:
        assert await record.enrichments.want(None) == 1
    again = await begin(record)
    assert (again.version_id, again.attempts) == (work.version_id, 1)
    # What runs is left alone.
    assert not await record.enrichments.retry(work.ingestion_id)
    assert await record.enrichments.want(None) == 0
    assert await record.enrichments.owned(work.version_id, again.claim) == again


async def test_what_was_overtaken_hides_nothing_that_waits_behind_it(record: Record) -> None:
    for text in ("first", "second", "third", "fourth"):
        await tell(record, "one", Extraction(), text=text, enrich=True)
    last = await tell(record, "two", Extraction(), enrich=True)
    assert (await begin(record)).version_id != last
    assert (await begin(record)).version_id == last
    assert await record.enrichments.claim(owner="me", limit=1, lease_seconds=60) == []
    rows = await record.database.fetch_all(
        "SELECT state, count(*) AS n FROM enrichments GROUP BY 1 ORDER BY 1"
    )
    assert rows == [{"state": "running", "n": 2}, {"state": "superseded", "n": 3}]


async def test_leases_that_ran_out_can_be_taken_over(record: Record) -> None:
    await tell(record, "one", Extraction(), enrich=True)
    (work,) = await record.enrichments.claim(owner="gone", limit=1, lease_seconds=-1)
    assert await record.enrichments.expired(not_owner="me", all_others=False) == [work]
    await record.enrichments.renew_leases("gone", 60)
    assert await record.enrichments.expired(not_owner="me", all_others=False) == []
    assert await record.enrichments.expired(not_owner="me", all_others=True) == [work]
    await record.enrichments.release([work.version_id], claim=uuid4())
    assert await record.enrichments.owned(work.version_id, work.claim) == work
    await record.enrichments.release([work.version_id], claim=work.claim)
    assert (await begin(record)).version_id == work.version_id


async def test_one_whose_runs_end_again_and_again_without_a_word_fails_with_the_reason(
    record: Record,
) -> None:
    await tell(record, "one", Extraction(), enrich=True)
    work = await begin(record)
    await record.enrichments.release([work.version_id], claim=work.claim)
    for _ in range(8):
        work = await begin(record)
        # What its provider says is no such end, nor is an orderly stop.
        await record.enrichments.wait(work.version_id, work.claim, DOWN, seconds=0)
        work = await begin(record)
        await record.enrichments.release([work.version_id], claim=work.claim)
        work = await begin(record)
        await record.enrichments.release([work.version_id], claim=work.claim, lost=True)
    assert await record.enrichments.claim(owner="me", limit=9, lease_seconds=60) == []
    (ingestion,) = await record.ingestions.get([work.ingestion_id])
    view = present_ingestion(ingestion)
    assert (view.state, view.enrichment) == ("ready", EnrichmentState.FAILED)
    assert view.enrichment_failure is not None
    assert "begun 8 times" in view.enrichment_failure.message
    assert await record.enrichments.retry(work.ingestion_id)
    work = await begin(record)
    await record.enrichments.release([work.version_id], claim=work.claim, lost=True)
    assert (await begin(record)).version_id == work.version_id


async def test_an_answer_serves_every_version_of_its_namespace_and_goes_with_its_own(record: Record) -> None:
    version_id = await tell(record, "one", Extraction())
    await record.enrichments.keep_answer(version_id, "key", {"entities": []})
    await record.enrichments.keep_answer(version_id, "key", {"entities": ["other"]})
    assert await record.enrichments.answer("default", "key") == {"entities": []}
    assert await record.enrichments.answer("other", "key") is None
    await forget(record, version_id)
    assert await record.enrichments.answer("default", "key") is None
    await record.enrichments.keep_answer(version_id, "key", {})
    assert await record.enrichments.answer("default", "key") is None


async def test_known_entities_are_found_by_name_alias_and_core_with_what_is_said_of_them(
    record: Record,
) -> None:
    await tell(
        record,
        "one",
        Extraction(
            entities=(entity("Acme Corp.", "Organization", "The Anvil People"),),
            facts=(fact("Acme Corp.", "makes", "anvils"),),
        ),
    )
    asked = ["acme corp.", "Acme Inc.", "the anvil people", "Globex"]
    found = await record.enrichments.known_by_name("default", asked)
    acme = found["acme corp."][0]
    assert (acme.name, acme.aliases, acme.said) == (
        "Acme Corp.",
        ("The Anvil People",),
        ("Acme Corp. makes anvils",),
    )
    assert found == {"acme corp.": [acme], "Acme Inc.": [acme], "the anvil people": [acme], "Globex": []}
    assert await record.enrichments.known([acme.id, uuid4()]) == [acme]
    await keep_vectors(record, "model", {acme.id: b"1234", uuid4(): b"5678"})
    assert await known_vectors(record, "Organization") == [(acme.id, b"1234")]
    assert await known_vectors(record, "Person") == []


async def test_the_nearest_names_are_the_same_however_many_are_looked_at_at_a_time(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Extraction(entities=tuple(entity(f"Company {letter}") for letter in "abcdefghi"))
    await tell(record, "one", said)
    vectors = {
        id_of(f"Company {letter}"): np.array([1, place / 10], dtype="<f4").tobytes()
        for place, letter in enumerate("abcdefghi")
    }
    await keep_vectors(record, "model", vectors)
    assert dict(await known_vectors(record, "Organization", limit=2)) == vectors

    class Names:
        """An embedder whose vectors are known."""

        name, state = "model", EmbedderState(readiness=Readiness.READY, text="")

        async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
            return [[1, 0.31] for _ in texts]

    found: list[list[UUID]] = []
    for at_once in (4_000, 2):
        monkeypatch.setattr(resolution, "_VECTORS_AT_ONCE", at_once)
        resolving = resolution.Resolution(record.enrichments, "default", cast("Embedder", Names()))
        new = Extraction(entities=(entity("Firm"),))
        resolved = await resolving.resolve(new)
        assert resolved.links == (), "a vector made one of names that have no word in common"
        found.append([link.other_id for link, _ in resolved.doubts])
    assert found[0] == found[1]
    assert found[0][0] == id_of("Company d")


async def test_a_removal_leaves_an_entity_that_a_commit_names_meanwhile(record: Record) -> None:
    gone = await tell(record, "one", Extraction(entities=(entity("Globex"),)))
    kept = await tell(record, "two", Extraction())
    async with record.database.transaction() as committing:
        await committing.execute(
            "INSERT INTO entity_sources SELECT entity_id, %s, name, type, aliases, alias_keys, chunk_ids, layer "
            "FROM entity_sources",
            (kept,),
        )
        removing = asyncio.create_task(record.purges.delete_rows([gone]))
        await waits_for_a_lock(record)
    await removing
    assert names(await look(record, "Globex")) == ["Globex"]


async def test_a_commit_that_names_what_is_being_removed_brings_it_back(record: Record) -> None:
    gone = await tell(record, "one", Extraction(entities=(entity("Globex"),)))
    await tell(record, "two", Extraction(), enrich=True)
    work = await begin(record)
    found = Enriched(extraction=Extraction(entities=(entity("Globex"),)))
    async with record.database.transaction() as removing:
        await removing.execute("DELETE FROM versions WHERE id = %s", (gone,))
        await removing.execute("DELETE FROM entities")
        publishing = asyncio.create_task(record.enrichments.publish(work.version_id, work.claim, found))
        await waits_for_a_lock(record)
    assert await publishing
    assert names(await look(record, "Globex")) == ["Globex"]


async def test_a_row_whose_entity_was_removed_a_moment_ago_can_be_written_again_later(record: Record) -> None:
    version_id = await tell(record, "one", Extraction())
    with pytest.raises(Unavailable) as removed:
        async with record.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO entity_sources (entity_id, version_id, name, type, aliases, alias_keys, chunk_ids) "
                "VALUES (%s, %s, 'Globex', 'Organization', '{}', '{}', '{}')",
                (id_of("Globex"), version_id),
            )
    assert removed.value.retryable


async def waits_for_a_lock(record: Record) -> None:
    async def waiting() -> bool:
        row = await record.database.fetch_one("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1")
        return row is not None

    await eventually(waiting)
