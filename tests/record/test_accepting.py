import asyncio

import pytest

from apex_mcp.errors import Code, Conflict, NotFound
from apex_mcp.models import IngestionState, Lane
from apex_mcp.presenting import present_ingestion
from apex_mcp.stores.health import Health
from apex_mcp.stores.record import Record
from tests.record.notes import claim, commit, note, remember
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


async def test_the_same_unfinished_request_twice_is_one_ingestion(record: Record) -> None:
    first = await record.ingestions.accept([note("a"), note("b"), note("a")])
    again = await record.ingestions.accept([note("b"), note("a")])
    assert first == [again[1], again[0], again[1]]
    assert await record.ingestions.unfinished() == 2


async def test_what_the_vector_index_lacks_is_what_an_ingestion_waits_for(record: Record) -> None:
    (accepted,) = await record.ingestions.accept([note()])
    ingestion, health = await record.ingestions.get_one(accepted), Health()
    assert present_ingestion(ingestion, health).waiting_for == "its turn"
    health.note("vectors", "degraded", "the Qdrant server does not answer")
    waiting = present_ingestion(ingestion, health).waiting_for
    assert waiting == "the vector index: the Qdrant server does not answer"


async def test_a_finished_request_sent_anew_is_a_new_ingestion_unless_it_carries_a_key(
    record: Record,
) -> None:
    await remember(record, "plain")
    (again,) = await record.ingestions.accept([note(text="plain")])
    assert (await record.ingestions.get_one(again)).state is IngestionState.PENDING
    await record.ingestions.request_cancel(again)

    (keyed,) = await record.ingestions.accept([note("k", idempotency_key="import-1")])
    token, _ = await claim(record)
    await commit(record, token, {keyed: "hello"})
    assert await record.ingestions.accept([note("k", "other text", idempotency_key="import-1")]) == [keyed]


async def test_one_call_sent_again_after_its_end_is_still_the_same_ingestion(record: Record) -> None:
    (first,) = await record.ingestions.accept([note()], ["call-1"])
    token, _ = await claim(record)
    await commit(record, token, {first: "hello"})
    assert await record.ingestions.accept([note()], ["call-1"]) == [first]


async def test_many_callers_at_once_each_get_their_own_ingestion_and_nothing_is_lost(record: Record) -> None:
    accepted = await asyncio.gather(
        *(record.ingestions.accept([note(f"n{number}", f"text {number}")]) for number in range(100))
    )
    assert len({one for (one,) in accepted}) == 100
    assert await record.ingestions.unfinished() == 100


async def test_entries_of_one_document_are_claimed_one_after_the_other_in_the_order_of_acceptance(
    record: Record,
) -> None:
    ids = await record.ingestions.accept([note("a", "one"), note("a", "two"), note("b", "three")])
    token, claimed = await claim(record)
    assert claimed == [ids[0], ids[2]]
    assert (await claim(record))[1] == []
    await commit(record, token, {ids[0]: "one", ids[2]: "three"})
    assert (await claim(record))[1] == [ids[1]]


async def test_a_namespace_with_a_long_queue_does_not_starve_another(record: Record) -> None:
    await record.ingestions.accept([note(f"n{number}", namespace="busy") for number in range(50)])
    (quiet,) = await record.ingestions.accept([note("q", namespace="quiet")])
    _, claimed = await claim(record, limit=10)
    assert quiet in claimed


async def test_two_dispatchers_never_claim_the_same_entry(record: Record) -> None:
    await record.ingestions.accept([note(f"n{number}") for number in range(60)])
    rounds = await asyncio.gather(*(claim(record, limit=20, owner=f"d{number}") for number in range(6)))
    claimed = [one for _, some in rounds for one in some]
    assert len(claimed) == len(set(claimed))


async def test_a_pending_ingestion_is_cancelled_at_once_and_a_finished_one_says_that_it_is_over(
    record: Record,
) -> None:
    (pending,) = await record.ingestions.accept([note("a")])
    assert (await record.ingestions.request_cancel(pending)).state is IngestionState.CANCELLED
    assert (await claim(record))[1] == []
    await remember(record, "done", key="b")
    (done,) = [
        one
        for one in await record.ingestions.recent("default", state=None, limit=9, before=None)
        if one.key == "b"
    ]
    with pytest.raises(Conflict) as raised:
        await record.ingestions.request_cancel(done.id)
    assert raised.value.code is Code.ALREADY_FINISHED


async def test_an_ingestion_that_is_claimed_just_as_it_is_cancelled_is_cancelled(record: Record) -> None:
    (ingestion,) = await record.ingestions.accept([note()])
    async with record.database.transaction() as claiming:
        # In the order of a claim, and slower than any: the two wait for each other.
        await claiming.execute("SELECT 1 FROM outbox FOR UPDATE")
        cancelling = asyncio.create_task(record.ingestions.request_cancel(ingestion))
        await eventually(lambda: _waits(record))
        await claiming.execute("UPDATE ingestions SET state = 'running', claim = gen_random_uuid()")
    cancelled = await cancelling
    assert cancelled.state is IngestionState.RUNNING
    assert cancelled.cancel_requested_at is not None


async def _waits(record: Record) -> bool:
    """Whether a statement waits for a lock of another."""
    return await record.database.fetch_one("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1") is not None


async def test_a_cancelled_ingestion_can_be_retried_and_runs_alone(record: Record) -> None:
    (ingestion,) = await record.ingestions.accept([note()])
    await record.ingestions.request_cancel(ingestion)
    assert (await record.ingestions.retry(ingestion)).state is IngestionState.PENDING
    assert (await claim(record, lane=Lane.OWN))[1] == [ingestion]


async def test_one_that_is_being_cancelled_is_not_retried_before_it_is_cancelled(record: Record) -> None:
    (ingestion,) = await record.ingestions.accept([note()])
    token, _ = await claim(record)
    await record.ingestions.request_cancel(ingestion)
    with pytest.raises(Conflict, match="being cancelled") as raised:
        await record.ingestions.retry(ingestion)
    assert raised.value.code is Code.NOT_RETRYABLE
    await record.ingestions.finish(ingestion, IngestionState.CANCELLED, claim=token)
    assert (await record.ingestions.retry(ingestion)).state is IngestionState.PENDING


async def test_a_failed_ingestion_is_not_retried_over_a_later_one_of_the_same_document(
    record: Record,
) -> None:
    (failed,) = await record.ingestions.accept([note("a", "old")])
    await record.ingestions.request_cancel(failed)
    await remember(record, "new", key="a")
    with pytest.raises(Conflict) as raised:
        await record.ingestions.retry(failed)
    assert raised.value.code is Code.NOT_RETRYABLE


async def test_released_entries_wait_again_and_their_old_claim_owns_nothing(record: Record) -> None:
    (ingestion,) = await record.ingestions.accept([note()])
    token, _ = await claim(record)
    await record.outbox.release([ingestion], claim=token, alone=True)
    assert await record.ingestions.owned([ingestion], token) == []
    _, claimed = await claim(record, lane=Lane.OWN)
    assert claimed == [ingestion]
    assert (await record.ingestions.get_one(ingestion)).attempts == 2


async def test_one_that_is_cancelled_ends_where_its_run_is_lost(record: Record) -> None:
    (ingestion, other) = await record.ingestions.accept([note("a"), note("b")])
    token, _ = await claim(record)
    await record.ingestions.request_cancel(ingestion)
    assert set(await record.outbox.release([ingestion, other], claim=token)) == {ingestion, other}
    ended = await record.ingestions.get_one(ingestion)
    assert (ended.state, ended.finished_at is not None) == (IngestionState.CANCELLED, True)
    assert (await claim(record))[1] == [other]


async def test_an_unknown_ingestion_is_named_in_the_error(record: Record) -> None:
    from uuid import UUID

    with pytest.raises(NotFound):
        await record.ingestions.get_one(UUID(int=7))
