"""What is wrong within the record is named, mended where it can be, and everything else stays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from apex_mcp.ingestion.verifying.of_record import RecordVerifier
from apex_mcp.models import Extraction
from apex_mcp.runtime.postgres import ADMIN, EmbeddedPostgres
from apex_mcp.stores.record import Record
from tests.record.graphs import enrich, entity, forget, tell, works_at
from tests.record.notes import claim, note, remember, visible_texts

pytestmark = pytest.mark.anyio


async def differing(record: Record, *, repair: bool = False) -> dict[str, tuple[int, int]]:
    """What differed, and how much of it still does."""
    found = [one async for one in RecordVerifier(record.checks).run(repair=repair)]
    return {one.what: (one.differs, one.left) for one in found if one.differs}


async def tell_of_ann(record: Record) -> None:
    """Two versions of one note, links, aliases, a fact that a model ended, and an ingestion that waits."""
    await remember(record, "first")
    await remember(record, "second")
    await tell(record, "acme", works_at("Ann", "Acme Corp."))
    await tell(record, "acme2", works_at("Ann", "ACME"), enrich=True)
    await enrich(record, works_at("Ann", "Acme Corporation"))
    await record.ingestions.accept([note("waits", "waits")])


def named(name: str, *aliases: str) -> Extraction:
    return Extraction(entities=(entity(name, "Organization", *aliases),))


async def execute(postgres: EmbeddedPostgres, record: Record, *statements: LiteralString) -> None:
    """As nobody could in daily use: triggers that guard references are off."""
    name = conninfo_to_dict(record.database.conninfo)["dbname"]
    admin = postgres.conninfo(database=str(name), role=ADMIN)
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)


@dataclass(frozen=True)
class Spoilt:
    """What is done to a record, what that is called, and how much of it cannot be mended."""

    what: str
    by: Sequence[LiteralString]
    left: int = 0
    more: Sequence[str] = ()


SPOILT = [
    Spoilt(
        "documents have one current version",
        ("DROP INDEX versions_current", "UPDATE versions SET revision_to = NULL WHERE title = 'first'"),
        more=["versions of a document follow each other"],
    ),
    Spoilt(
        "versions of a document follow each other",
        ("UPDATE versions SET revision_to = 9 WHERE title = 'first'",),
    ),
    Spoilt("revisions have no gaps", ("DELETE FROM revisions WHERE revision = 2",)),
    Spoilt("revisions have no gaps", ("UPDATE namespaces SET revision = revision - 1",)),
    Spoilt(
        "versions have all their passages",
        ("DELETE FROM chunks WHERE text = 'second'",),
        left=1,
    ),
    Spoilt("versions have their text", ("DELETE FROM version_texts WHERE text = 'second'",), left=1),
    Spoilt(
        "versions have the vectors that they are said to have",
        (
            "UPDATE identity SET embedder = 'some'",
            "UPDATE versions SET embedded_with = 'some' WHERE title = 'second'",
        ),
    ),
    Spoilt(
        "removed versions wait to be purged",
        ("UPDATE versions SET tombstoned_at = now() WHERE title = 'first'",),
    ),
    Spoilt(
        "mentions are in passages of their version",
        (
            "UPDATE entity_sources SET chunk_ids = chunk_ids || gen_random_uuid() "
            "WHERE (entity_id, version_id, layer) = (SELECT entity_id, version_id, layer FROM entity_sources LIMIT 1)",
        ),
    ),
    Spoilt(
        "facts are stated by passages of their version",
        ("UPDATE fact_sources SET chunk_id = gen_random_uuid() WHERE layer = 1",),
        more=["facts have a source"],
    ),
    Spoilt(
        "facts have a source",
        (
            "INSERT INTO facts SELECT gen_random_uuid(), namespace, subject_id, 'was_at', object_id, object_text "
            "FROM facts LIMIT 1",
        ),
    ),
    Spoilt(
        "entities have a source",
        ("INSERT INTO entities VALUES (gen_random_uuid(), 'default', 'nobody')",),
    ),
    Spoilt(
        "aliases have a source",
        ("INSERT INTO entity_aliases SELECT namespace, 'nickname', id FROM entities LIMIT 1",),
    ),
    Spoilt("entities are found by their aliases", ("DELETE FROM entity_aliases",)),
    Spoilt("links of entities have their pair", ("DELETE FROM entity_pairs",)),
    Spoilt("pairs of entities have a link", ("DELETE FROM entity_links",)),
    Spoilt(
        "ends of facts are of facts that are there",
        (
            "INSERT INTO fact_ends SELECT fact_id, gen_random_uuid(), version_id, now() FROM fact_sources LIMIT 1",
        ),
    ),
    Spoilt(
        "ingestions that are over wait for nobody",
        (
            "INSERT INTO outbox SELECT id, seq, namespace, document_id, lane, bulk FROM ingestions "
            "WHERE state = 'ready' LIMIT 1",
        ),
    ),
    Spoilt("ingestions that are not over are waited for", ("DELETE FROM outbox",)),
]


@pytest.mark.parametrize("spoilt", SPOILT, ids=lambda one: one.what)
async def test_what_is_wrong_is_named_and_mended(
    record: Record, postgres: EmbeddedPostgres, spoilt: Spoilt
) -> None:
    await tell_of_ann(record)
    await tell(record, "alias", named("Initech", "the Firm"))
    assert await differing(record) == {}
    await execute(postgres, record, *spoilt.by)
    found = await differing(record)
    assert spoilt.what in found
    assert set(found) <= {spoilt.what, *spoilt.more}
    assert spoilt.what in await differing(record, repair=True)
    assert sum(left for _, left in (await differing(record)).values()) == spoilt.left


async def test_mending_leaves_what_is_right_as_it_is(record: Record, postgres: EmbeddedPostgres) -> None:
    await tell_of_ann(record)
    before = await visible_texts(record)
    await execute(
        postgres,
        record,
        "INSERT INTO entities VALUES (gen_random_uuid(), 'default', 'nobody')",
        "UPDATE versions SET revision_to = 9 WHERE title = 'first'",
        "DELETE FROM outbox",
    )
    await differing(record, repair=True)
    assert await visible_texts(record) == before
    assert await record.database.fetch_all(
        "SELECT revision_from, revision_to FROM versions WHERE title = 'first'"
    ) == [{"revision_from": 1, "revision_to": 2}]
    # What was stuck goes on.
    assert len((await claim(record))[1]) == 1


async def test_an_alias_goes_with_the_last_version_that_gives_it(record: Record) -> None:
    await tell(record, "one", named("Acme"))
    told = await tell(record, "two", named("Acme", "the Company"))
    assert await aliases(record) == ["the company"]
    await forget(record, told)
    assert await aliases(record) == []
    assert await differing(record) == {}


async def aliases(record: Record) -> list[str]:
    return [row["key"] for row in await record.database.fetch_all("SELECT key FROM entity_aliases")]


async def test_vectors_that_were_dropped_for_another_embedder_are_owed_should_it_be_set_again(
    record: Record,
) -> None:
    await remember(record, "first")
    (chunk,) = await record.passage_vectors.owed("small", limit=10)
    await record.index_log.set_embedder("small")
    assert await record.passage_vectors.bring(
        "small", [chunk], [b"\0\0\0\0"], index=await record.index_log.in_use()
    )
    await record.index_log.set_embedder("large")
    await record.index_log.drop_vectors_of_others("large")
    await record.index_log.set_embedder("small")
    assert await differing(record) == {}
    assert [one.id for one in await record.passage_vectors.owed("small", limit=10)] == [chunk.id]
