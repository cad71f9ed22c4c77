"""Versions that were replaced long ago go, and answers about the time before say so."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from apex_mcp.stores.record import Record
from apex_mcp.stores.record.database import Connection
from tests.record.graphs import look, names, tell, works_at
from tests.record.notes import remember, visible_texts
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

_DAY = 86_400.0


async def replaced_ago(record: Record, days: float, *, revision: int) -> datetime:
    """Let a revision have been committed this long ago; when that was."""
    rows = await record.database.fetch_all(
        "UPDATE revisions SET committed_at = clock_timestamp() - make_interval(secs => %s) WHERE revision = %s "
        "RETURNING committed_at",
        (days * _DAY, revision),
    )
    return rows[0]["committed_at"]


async def prune(record: Record, days: float) -> int:
    purges = await record.retention.prune(days * _DAY)
    await record.purges.delete_rows([one.version_id for one in purges])
    return len(purges)


async def titles(record: Record) -> list[str]:
    return [
        row["title"] for row in await record.database.fetch_all("SELECT title FROM versions ORDER BY number")
    ]


async def test_a_version_goes_when_it_was_replaced_longer_ago_than_it_is_kept(record: Record) -> None:
    for text in ("first", "second", "third"):
        await remember(record, text)
    # The first came long ago as well, and was replaced a month ago; the second was replaced just now.
    await replaced_ago(record, 400, revision=1)
    await replaced_ago(record, 30, revision=2)
    assert await prune(record, 31) == 0
    assert await prune(record, 29) == 1
    assert await titles(record) == ["second", "third"]
    assert await prune(record, 29) == 0
    assert await visible_texts(record) == ["third"]
    async with record.reader.view("default") as view:
        assert view.revision == 4  # so that no answer is kept from before


async def test_what_is_current_stays_however_old_it_is(record: Record) -> None:
    await remember(record, "first")
    await replaced_ago(record, 4000, revision=1)
    assert await prune(record, 0) == 0
    assert await visible_texts(record) == ["first"]


async def test_a_pruned_version_is_purged_from_the_indexes_and_is_no_more_to_be_read(record: Record) -> None:
    for text in ("first", "second"):
        await remember(record, text)
    await replaced_ago(record, 30, revision=2)
    position = await record.index_log.position()
    (purge,) = await record.retention.prune(_DAY)
    assert [one.version_id for one in await record.purges.due()] == [purge.version_id]
    assert purge.version_id in await record.index_log.changed_since(position)
    assert (await record.index_log.standing([purge.version_id])).present == []
    async with record.reader.view("default", known_at=datetime.now(UTC) - timedelta(days=31)) as view:
        assert await view.list_documents(source_types=[], limit=10, before=None) == []


async def test_what_was_known_before_is_said_to_be_known_in_part_only(record: Record) -> None:
    for text in ("first", "second", "third"):
        await remember(record, text)
    await remember(record, "elsewhere", namespace="other")
    await replaced_ago(record, 60, revision=1)
    replaced = await replaced_ago(record, 30, revision=2)
    async with record.reader.view("default") as view:
        assert view.pruned(datetime.now(UTC) - timedelta(days=400)) is None
    await prune(record, 10)
    async with record.reader.view("default") as view:
        assert view.pruned(None) is None
        assert view.pruned(replaced) is None
        lack = view.pruned(replaced - timedelta(seconds=1))
        assert lack is not None
        assert "APEX_KEEP_PAST_DAYS" in lack
    async with record.reader.view("other") as view:
        assert view.pruned(replaced - timedelta(days=9)) is None


async def test_entities_go_with_the_last_version_that_named_them(record: Record) -> None:
    await tell(record, "note", works_at("Ann", "Acme"))
    await tell(record, "note", works_at("Ann", "Initech"))
    await replaced_ago(record, 30, revision=2)
    await prune(record, 10)
    assert names(await look(record, "Acme")) == []
    assert names(await look(record, "Ann")) == ["Ann"]


async def test_notes_of_removals_go_when_they_are_old_and_over(record: Record) -> None:
    await record.database.fetch_all(
        "INSERT INTO purges (version_id, ingestion_id, requested_at, passes, next_pass_at) VALUES "
        "(gen_random_uuid(), gen_random_uuid(), now() - interval '31 days', 2, NULL), "
        "(gen_random_uuid(), gen_random_uuid(), now() - interval '31 days', 1, now()), "
        "(gen_random_uuid(), gen_random_uuid(), now(), 2, NULL) RETURNING 1"
    )
    await record.database.fetch_all(
        "INSERT INTO forgettings (kind, documents, versions, entities, facts, erased_at) VALUES "
        "('documents', 1, 1, 0, 0, now() - interval '400 days'), ('documents', 1, 1, 0, 0, now()), "
        "('documents', 1, 1, 0, 0, NULL) RETURNING 1"
    )
    dropped = await record.retention.drop_old(purge_days=30, forgetting_days=365)
    assert (dropped.purges, dropped.forgettings) == (1, 1)


async def test_what_locks_the_other_way_round_is_waited_for_and_not_in_its_way(record: Record) -> None:
    for text in ("first", "second"):
        await remember(record, text)
    await replaced_ago(record, 30, revision=2)

    prunings: list[asyncio.Task[int]] = []

    async def waiting() -> bool:
        return await record.database.fetch_all("SELECT 1 FROM pg_locks WHERE NOT granted") != []

    async def forget(connection: Connection) -> None:
        await connection.execute("SELECT 1 FROM namespaces FOR NO KEY UPDATE")
        if not prunings:
            prunings.append(asyncio.create_task(prune(record, 29)))
            await eventually(waiting)
        await connection.execute("UPDATE versions SET title = title")

    # PostgreSQL ends one of the two, as a rule the one that waited first.
    await record.database.transact(forget)
    assert await prunings[0] == 1
    assert await visible_texts(record) == ["second"]
