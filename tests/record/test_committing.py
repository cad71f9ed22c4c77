import asyncio
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from apex_mcp import ids
from apex_mcp.models import IngestionState
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.schema import HEAD, ensure_schema
from tests.record.notes import claim, commit, note, remember, version, visible_texts

pytestmark = pytest.mark.anyio


async def test_a_new_version_replaces_the_old_one_in_one_step(record: Record) -> None:
    await remember(record, "first")
    result = await remember(record, "second")
    assert [one.revision_to for one in result.retired] == [2]
    assert await visible_texts(record) == ["second"]


async def test_equal_content_is_unchanged_and_makes_no_version(record: Record) -> None:
    await remember(record, "same")
    result = await remember(record, "same")
    assert list(result.states.values()) == [IngestionState.UNCHANGED]
    async with record.reader.view("default") as view:
        assert (view.revision, (await view.counts())["versions"]) == (1, 1)


async def test_a_reader_sees_one_state_however_long_it_reads(record: Record) -> None:
    await remember(record, "before")
    async with record.reader.view("default") as view:
        await remember(record, "after")
        rows = await view.list_documents(source_types=[], limit=10, before=None)
        assert [row["title"] for row in rows] == ["before"]
    assert await visible_texts(record) == ["after"]


async def test_known_at_shows_what_was_known_then(record: Record) -> None:
    before = datetime.now(UTC)
    await remember(record, "old")
    between = datetime.now(UTC)
    await remember(record, "new")
    for time, expected in ((before, []), (between, ["old"]), (datetime.now(UTC), ["new"])):
        async with record.reader.view("default", known_at=time) as view:
            rows = await view.list_documents(source_types=[], limit=10, before=None)
            assert [row["title"] for row in rows] == expected


async def test_a_cancelled_member_of_a_group_is_left_out_of_the_commit(record: Record) -> None:
    kept, cancelled = await record.ingestions.accept([note("a"), note("b")])
    token, _ = await claim(record)
    await record.ingestions.request_cancel(cancelled)
    result = await commit(record, token, {kept: "kept", cancelled: "cancelled"})
    assert result.states == {kept: IngestionState.READY, cancelled: IngestionState.CANCELLED}
    assert await visible_texts(record) == ["kept"]


async def test_what_was_cancelled_in_its_run_is_run_again_with_its_text(record: Record) -> None:
    kept, cancelled = await record.ingestions.accept([note("a", "kept"), note("b", "cancelled")])
    token, _ = await claim(record)
    await record.ingestions.request_cancel(cancelled)
    await commit(record, token, {kept: "kept", cancelled: "cancelled"})
    assert await record.ingestions.contents([kept, cancelled]) == {cancelled: "cancelled"}
    assert (await record.ingestions.retry(cancelled)).state is IngestionState.PENDING


async def test_what_ends_as_unchanged_says_what_stands(record: Record) -> None:
    await remember(record, "kept")
    (again,) = await record.ingestions.accept([note(text="kept")])
    token, _ = await claim(record)
    await record.ingestions.finish(again, IngestionState.UNCHANGED, claim=token)
    (ended,) = await record.ingestions.get([again])
    assert (ended.result["title"], ended.result["version"]) == ("kept", 1)


async def test_what_a_commit_leaves_out_is_owed_its_removal_from_that_moment(record: Record) -> None:
    kept, cancelled = await record.ingestions.accept([note("a"), note("b")])
    token, _ = await claim(record)
    await record.ingestions.request_cancel(cancelled)
    await commit(record, token, {kept: "kept", cancelled: "cancelled"})
    # Whoever committed may die before it removes what it wrote to the index.
    assert [purge.ingestion_id for purge in await record.purges.due()] == [cancelled]


async def test_a_run_that_was_replaced_commits_nothing(record: Record) -> None:
    (ingestion,) = await record.ingestions.accept([note()])
    old, _ = await claim(record)
    await record.outbox.release([ingestion], claim=old)
    new, _ = await claim(record)
    assert (await commit(record, old, {ingestion: "late"})).lost == [ingestion]
    assert await visible_texts(record) == []
    await commit(record, new, {ingestion: "right"})
    assert await visible_texts(record) == ["right"]


async def test_of_two_runs_of_one_document_that_commit_at_once_the_later_accepted_is_current(
    record: Record,
) -> None:
    ingestions = await record.ingestions.accept([note(text="first"), note(text="second")])
    tokens: list[UUID] = []
    for ingestion in ingestions:
        token, _ = await claim(record)
        tokens.append(token)
        # As where the earlier one was accepted in a transaction that was seen later only.
        await record.database.fetch_all(
            "DELETE FROM outbox WHERE ingestion_id = %s RETURNING 1", (ingestion,)
        )
    both = [
        asyncio.create_task(commit(record, token, {ingestion: str(ingestion)}))
        for token, ingestion in zip(tokens, ingestions, strict=True)
    ]
    await asyncio.gather(*both)
    assert await visible_texts(record) == [str(ingestions[1])]


async def test_commits_of_many_groups_that_name_the_same_entities_all_succeed(record: Record) -> None:
    async def group(number: int) -> None:
        wanted = await record.ingestions.accept([
            note(f"{number}-{one}", f"Ann works at Acme {number} {one}") for one in range(8)
        ])
        token, claimed = await claim(record, limit=8, owner=str(number))
        await commit(record, token, {one: f"Ann works at Acme {one}" for one in claimed})
        assert len(wanted) == 8

    await asyncio.gather(*(group(number) for number in range(6)))
    async with record.reader.view("default") as view:
        counts = await view.counts() | await view.graph_counts()
    assert (counts["documents"], counts["entities"], counts["facts"]) == (48, 2, 1)


async def test_nothing_of_one_namespace_shows_in_another(record: Record) -> None:
    await remember(record, "Ann works at Acme", namespace="ours")
    async with record.reader.view("theirs") as view:
        assert await view.find_entities(query="Acme", entity_id=None, type_=None, limit=5) == []
        assert await view.known_entities(["Acme"]) == []
        assert await view.document(ids.document_id("ours", "note"), None) is None
    async with record.reader.view("ours") as view:
        (acme,) = await view.find_entities(query="Acme", entity_id=None, type_=None, limit=5)
        (chunk,) = await view.chunks_naming([acme["id"]], limit=5)
    async with record.reader.view("theirs") as view:
        assert await view.hydrate([chunk[0]]) == {}
        assert await view.facts_of([acme["id"]], limit=5) == []


async def test_a_purged_version_takes_its_entities_and_facts_with_it_and_leaves_shared_ones(
    record: Record,
) -> None:
    await remember(record, "Ann works at Acme", key="one")
    (ingestion,) = await record.ingestions.accept([note("two", "Ann works at Acme too")])
    token, _ = await claim(record)
    await commit(record, token, {ingestion: "Ann works at Acme too"})
    (second,) = await record.ingestions.get([ingestion])
    await record.purges.delete_rows([version(second, token, "").id])
    async with record.reader.view("default") as view:
        assert await view.counts() == {"documents": 1, "versions": 1, "chunks": 1}
        assert await view.graph_counts() == {"entities": 2, "facts": 1}


async def test_a_purged_run_can_no_longer_commit_and_a_committed_one_can_no_longer_be_purged(
    record: Record,
) -> None:
    paused, done = await record.ingestions.accept([note("a"), note("b")])
    token, _ = await claim(record)
    first, second = await record.ingestions.get([paused, done])
    gone, kept = version(first, token, "gone"), version(second, token, "kept")
    assert await record.purges.tombstone(gone.id, paused)
    assert [one.version_id for one in await record.purges.due()] == [gone.id]
    result = await record.versions.commit([gone, kept], token)
    assert result.lost == [paused]
    assert not await record.purges.tombstone(kept.id, done)
    assert await visible_texts(record) == ["kept"]
    for further in ([0.0, 3600.0], [0.0, 3600.0]):
        assert [one.version_id for one in await record.purges.due()] == [gone.id]
        await record.purges.passed([gone.id], again_after_seconds=further)
    assert await record.purges.due() == []


async def test_positions_of_the_index_log_never_miss_a_change(record: Record) -> None:
    before = await record.index_log.position()
    result = await remember(record, "one")
    assert await record.index_log.changed_since(before) != []
    after = await record.index_log.position()
    assert await record.index_log.changed_since(after) == []
    await record.index_log.forget_before(after)
    assert await record.index_log.changed_since("0") == []
    assert result.lost == []


async def test_processes_that_start_at_once_migrate_once(empty_conninfo: str) -> None:
    await asyncio.gather(*(ensure_schema(empty_conninfo) for _ in range(3)))
    with psycopg.connect(empty_conninfo) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
