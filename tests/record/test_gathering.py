"""Look-ups that are gathered: fewer queries, and no answer older than its question."""

import asyncio
from uuid import UUID, uuid4

import pytest

from apex_mcp.errors import Code, Unavailable
from apex_mcp.stores.record.gathering import Gathered

pytestmark = pytest.mark.anyio


class Table:
    """Rows, and a query that reads them at its start and answers when it is let go."""

    def __init__(self, rows: dict[UUID, str]) -> None:
        self.rows = rows
        self.queries: list[set[UUID]] = []
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def query(self, ids: list[UUID]) -> dict[UUID, str]:
        self.queries.append(set(ids))
        self.asked.set()
        seen = {id_: self.rows[id_] for id_ in ids if id_ in self.rows}
        await self.go.wait()
        return seen


async def test_questions_of_one_moment_are_one_query() -> None:
    table = Table({uuid4(): name for name in "abc"})
    table.go.set()
    gathered = Gathered(table.query)

    found = await asyncio.gather(*map(gathered.get, table.rows), gathered.get(uuid4()))

    assert found == ["a", "b", "c", None]
    assert len(table.queries) == 1


async def test_a_question_asked_while_a_query_runs_sees_what_was_written_before_it() -> None:
    id_ = uuid4()
    table = Table({id_: "old"})
    gathered = Gathered(table.query)
    first = asyncio.create_task(gathered.get(id_))
    await table.asked.wait()

    table.rows[id_] = "new"
    second = asyncio.create_task(gathered.get(id_))
    table.go.set()

    assert (await first, await second) == ("old", "new")


async def test_who_gives_up_takes_nobody_elses_answer_with_him() -> None:
    id_ = uuid4()
    table = Table({id_: "here"})
    gathered = Gathered(table.query)
    leaving, staying = (asyncio.create_task(gathered.get(id_)) for _ in range(2))
    await table.asked.wait()

    leaving.cancel()
    table.go.set()

    assert await staying == "here"
    assert leaving.cancelled()


async def test_a_query_that_fails_fails_for_all_of_its_askers_and_for_no_later_one() -> None:
    failures = [Unavailable("away", code=Code.RECORD_UNAVAILABLE)]

    async def query(ids: list[UUID]) -> dict[UUID, str]:
        if failures:
            raise failures.pop()
        return {}

    gathered = Gathered(query)

    failed = await asyncio.gather(gathered.get(uuid4()), gathered.get(uuid4()), return_exceptions=True)

    assert [type(one) for one in failed] == [Unavailable, Unavailable]
    assert await gathered.get(uuid4()) is None
