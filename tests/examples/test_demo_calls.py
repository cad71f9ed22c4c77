"""The demo's calls over an MCP session, to stores that come late or not at all."""

import importlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from mcp import Client

from apex_mcp.caller import Caller
from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.server import Connection, build_server, current_connection
from tests.server.notebook import Notebook

pytestmark = pytest.mark.anyio

# Not by an import statement: the corpus beside it is a folder of the same name, which type checkers take for it.
demo = importlib.import_module("examples.demo")


class LateGateway:
    """Raises the errors that it was given, one a call, then has a memory."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    async def memory(self) -> Any:
        if self.errors:
            raise self.errors.pop()
        return Notebook()


@pytest.fixture
def gateway() -> LateGateway:
    return LateGateway()


@pytest.fixture
async def client(gateway: LateGateway) -> AsyncGenerator[Client]:
    token = current_connection.set(Connection(caller=Caller()))
    async with Client(build_server(gateway)) as client:
        yield client
    current_connection.reset(token)


def late() -> Unavailable:
    return Unavailable("not yet", code=Code.STARTING, retry_after_seconds=0.01)


async def test_a_call_that_may_work_later_is_sent_again(client: Client, gateway: LateGateway) -> None:
    gateway.errors = [late(), late()]
    answer = await demo._call(client, "search", {"query": "tea"})
    assert isinstance(answer, dict)
    assert answer["hits"] == []


async def test_a_call_that_never_works_ends_in_the_words_of_its_error(
    client: Client, gateway: LateGateway
) -> None:
    gateway.errors = [late() for _ in range(demo.TRIES + 1)]
    assert str(await demo._call(client, "search", {"query": "tea"})).startswith("starting: not yet")
    assert len(gateway.errors) == 1


async def test_a_call_that_is_refused_for_good_is_sent_once(client: Client, gateway: LateGateway) -> None:
    gateway.errors = [Rejected("no")] * 2
    assert str(await demo._call(client, "search", {"query": "tea"})).startswith("provider_rejected: no")
    assert len(gateway.errors) == 1
