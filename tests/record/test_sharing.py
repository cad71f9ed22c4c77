"""What processes that share a record do by PostgreSQL: ring for each other, and own it where only one may."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from apex_mcp.errors import Code, Conflict, Rejected
from apex_mcp.models import Lane
from apex_mcp.stores.record import Record
from apex_mcp.stores.record.address import shown, users_conninfo
from apex_mcp.stores.record.in_use import (
    GRAPH,
    MODEL,
    end_unused,
    end_whenever_unused,
    set_read_by_model,
    use,
)
from apex_mcp.stores.record.listening import RecordBell, shared_bell
from apex_mcp.stores.record.owner import own_record, share_record, take_index
from tests.record.graphs import id_of, tell, works_at
from tests.record.notes import claim, note, version
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

NOTES = (Lane.FAST, False)
FILES = (Lane.OWN, False)
PLACE = "mark of a place"


@pytest.fixture
async def bells(record: Record) -> AsyncGenerator[tuple[RecordBell, RecordBell]]:
    """Of two processes; both hear."""
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(shared_bell(record.database)) for _ in range(2)]
        await eventually(lambda: _sessions(record, "apex-mcp bell", 2))
        yield one, other


async def test_a_ring_is_heard_in_the_other_process_and_only_by_whom_it_is_for(
    bells: tuple[RecordBell, RecordBell],
) -> None:
    one, other = bells
    here, there, files = one.listener(NOTES), other.listener(NOTES), other.listener(FILES)
    one.ring([NOTES])
    assert here.is_set()
    await eventually(there.is_set)
    assert not files.is_set()
    one.ring()
    await eventually(files.is_set)


async def test_a_bell_whose_connection_broke_rings_again_for_what_it_missed(
    record: Record, bells: tuple[RecordBell, RecordBell]
) -> None:
    one, other = bells
    there = other.listener(NOTES)
    await _end_sessions(record, "apex-mcp bell")
    await eventually(lambda: _sessions(record, "apex-mcp bell", 2))
    await eventually(there.is_set)  # by itself: whatever was rung meanwhile
    there.clear()
    one.ring([NOTES])
    await eventually(there.is_set)


async def test_a_second_owner_is_refused_until_the_first_lets_go(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex_mcp.stores.record.owner._PATIENCE_SECONDS", 0.5)
    async with own_record(conninfo):
        with pytest.raises(Conflict) as caught:
            async with own_record(conninfo):
                pass
    assert caught.value.code == Code.RECORD_OWNED
    async with own_record(conninfo):
        pass


async def test_an_owner_and_those_who_share_keep_each_other_out(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex_mcp.stores.record.owner._PATIENCE_SECONDS", 0.5)
    async with share_record(conninfo, staging=PLACE), share_record(conninfo, staging=PLACE):
        with pytest.raises(Conflict) as alone:
            async with own_record(conninfo):
                pass
    async with own_record(conninfo):
        with pytest.raises(Conflict) as shared:
            async with share_record(conninfo, staging=PLACE):
                pass
    assert alone.value.code == shared.value.code == Code.RECORD_OWNED
    assert alone.value.message != shared.value.message
    async with share_record(conninfo, staging=PLACE):
        pass


async def test_one_who_shares_goes_on_after_its_connection_broke_and_still_keeps_owners_out(
    record: Record, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex_mcp.stores.record.owner._PATIENCE_SECONDS", 0.5)
    async with share_record(conninfo, staging=PLACE) as ownership:
        [first] = await _holders(record)
        await _end_sessions(record, "apex-mcp owner")

        async def held_again() -> bool:
            return bool(set(await _holders(record)) - {first})

        await eventually(held_again)
        with pytest.raises(Conflict):
            async with own_record(conninfo):
                pass
        lost = asyncio.create_task(ownership.lost())
        await asyncio.sleep(0)
        assert not lost.done()
        lost.cancel()


async def test_one_who_shared_knows_when_the_record_was_taken_while_its_connection_was_away(
    record: Record, conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex_mcp.stores.record.owner._PATIENCE_SECONDS", 0.5)
    async with share_record(conninfo, staging=PLACE) as ownership, AsyncExitStack() as stack:
        # A lock that is asked for in the ordinary way stands in line, so it comes before the other's next try.
        waiting = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        )
        taking = asyncio.create_task(waiting.execute("SELECT pg_advisory_lock(hashtext('apex-mcp owner'))"))
        await eventually(lambda: _in_line(record))
        await _end_sessions(record, "apex-mcp owner")
        await taking
        async with asyncio.timeout(30):
            await ownership.lost()


async def test_who_stages_content_elsewhere_than_those_who_share_the_record_is_refused(
    record: Record, conninfo: str
) -> None:
    async with share_record(conninfo, staging=PLACE), share_record(conninfo, staging=PLACE):
        with pytest.raises(Rejected, match="APEX_STAGING") as refused:
            async with share_record(conninfo, staging="mark of another"):
                pass
        assert refused.value.code == Code.SETTINGS_INVALID
        # Whoever was refused is in nobody's way.
        async with share_record(conninfo, staging=PLACE):
            pass
    # It can be moved while nobody works.
    async with share_record(conninfo, staging="mark of another"):
        pass


async def test_an_owner_whose_connection_broke_knows_that_it_may_be_none(
    record: Record, conninfo: str
) -> None:
    async with own_record(conninfo) as ownership:
        await _end_sessions(record, "apex-mcp owner")
        async with asyncio.timeout(30):
            await ownership.lost()


async def test_a_graph_is_ended_only_where_no_process_writes_it(record: Record, conninfo: str) -> None:
    queue = record.graph_queue
    await queue.begin("graph")
    writing = [asyncio.create_task(use(conninfo, GRAPH)) for _ in range(2)]

    async def kept() -> bool:
        return not await end_unused(conninfo, GRAPH, queue.end)

    await eventually(kept)
    await queue.begin("graph")
    assert await kept()
    await _end_sessions(record, "apex-mcp lock")
    await eventually(kept)  # they say it again
    for task in writing:
        task.cancel()
    await asyncio.wait(writing)
    assert await end_unused(conninfo, GRAPH, queue.end)
    assert await queue.mark() is None


async def test_what_is_forgotten_waits_for_a_graph_only_until_every_process_that_writes_it_is_gone(
    record: Record, conninfo: str
) -> None:
    await tell(record, "one", works_at("Ann", "Acme"))
    writing = asyncio.create_task(use(conninfo, GRAPH))

    async def kept() -> bool:
        return not await end_unused(conninfo, GRAPH, record.graph_queue.end)

    await eventually(kept)
    await record.graph_queue.begin("graph")
    ending = asyncio.create_task(
        end_whenever_unused(conninfo, GRAPH, record.graph_queue.end, look_seconds=0.05)
    )
    done = await record.forgetting.forget_entity("default", id_of("Acme"))
    assert done is not None

    async def removed() -> bool:
        now = await record.forgetting.get(done.id)
        return now is not None and now.removed

    assert (done.removed, await removed()) == (False, False)
    writing.cancel()
    await eventually(removed)
    ending.cancel()
    await asyncio.wait([writing, ending])


async def test_what_is_committed_is_to_be_read_while_any_process_has_a_model(
    record: Record, conninfo: str
) -> None:
    async def owed(key: str) -> bool:
        """Whether a process without a model commits what one with a model then reads."""
        (ingestion_id,) = await record.ingestions.accept([note(key, key)])
        token, _ = await claim(record)
        (ingestion,) = await record.ingestions.get([ingestion_id])
        await record.versions.commit([version(ingestion, token, key)], token)
        return await record.enrichments.claim(owner="me", limit=9, lease_seconds=60) != []

    begin = partial(set_read_by_model, record.database, True)
    end = partial(set_read_by_model, record.database, False)

    async def kept() -> bool:
        unused = await end_unused(conninfo, MODEL, end)
        row = await record.database.fetch_one("SELECT read_by_model FROM identity")
        return not unused and row == {"read_by_model": True}

    assert not await owed("before")
    reading = asyncio.create_task(use(conninfo, MODEL, begin))
    await eventually(kept)
    assert await owed("while one has")
    await _end_sessions(record, "apex-mcp lock")
    await eventually(kept)
    # Whoever was quicker ended it; once the model's process is heard again it is read again.
    assert await owed("heard again")
    reading.cancel()
    await asyncio.wait([reading])
    assert not await kept()
    assert not await owed("after")


async def test_an_owner_keeps_its_index_and_replaces_that_of_another(record: Record, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    await take_index(record.index_log, mine)
    name = await record.index_log.index_name()
    (mine / name).mkdir(parents=True)
    await take_index(record.index_log, mine)
    assert await record.index_log.index_name() == name
    await take_index(record.index_log, theirs)
    assert await record.index_log.index_name() != name


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", " "])
def test_what_is_no_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(Rejected) as caught:
        users_conninfo(url)
    assert caught.value.code == Code.SETTINGS_INVALID
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_an_address_is_shown_without_its_secrets_and_keeps_its_own_limits() -> None:
    url = "postgresql://ada:p%40ss@db.example:6432/apex?connect_timeout=60"
    assert shown(users_conninfo(url)) == "db.example:6432"
    assert conninfo_to_dict(users_conninfo(url))["connect_timeout"] == "60"


async def _sessions(record: Record, name: str, number: int) -> bool:
    row = await record.database.fetch_one(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = %s "
        "AND datname = current_database() AND query LIKE 'LISTEN%%'",
        (name,),
    )
    return row is not None and row["n"] == number


async def _holders(record: Record) -> list[int]:
    rows = await record.database.fetch_all(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted "
        "AND objid::bigint = hashtext('apex-mcp owner')::bigint & 4294967295 "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return [row["pid"] for row in rows]


async def _in_line(record: Record) -> bool:
    row = await record.database.fetch_one(
        "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return row is not None and row["n"] == 1


async def _end_sessions(record: Record, name: str) -> None:
    await record.database.fetch_all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
        "AND datname = current_database()",
        (name,),
    )
