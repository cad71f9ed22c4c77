import asyncio
import gc
import time

import pytest

from apex_mcp.models import Extraction
from apex_mcp.stores.record import Record
from tests.record.graphs import entity, fact, tell

pytestmark = pytest.mark.anyio

PERSONS = [f"Person Number{number} Surname{number}" for number in range(1000)]


async def test_others_get_their_turns_while_a_thousand_names_are_looked_up(record: Record) -> None:
    for start in range(0, len(PERSONS), 250):
        here = PERSONS[start : start + 250]
        said = [
            fact(one, "knows", PERSONS[(start + place + step) % len(PERSONS)])
            for place, one in enumerate(here)
            for step in (1, 2, 3)
        ]
        extraction = Extraction(entities=tuple(entity(one, "Person") for one in here), facts=tuple(said))
        await tell(record, f"part{start}", extraction)

    # What this thread worked, not what the clock says: the machine may be busy with something else.
    worked: list[float] = []

    async def take_turns() -> None:
        since = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            worked.append(now - since)
            since = now

    turns = asyncio.create_task(take_turns())
    await asyncio.sleep(0)
    gc.disable()  # a collection of all that the tests before this one left would count as one turn
    try:
        found = await record.enrichments.known_by_name("default", PERSONS)
    finally:
        gc.enable()
    turns.cancel()
    assert [len(found[one]) for one in PERSONS] == [1] * len(PERSONS)
    assert all(len(known.said) == 5 for some in found.values() for known in some)
    assert max(worked) < sum(worked) / 4
