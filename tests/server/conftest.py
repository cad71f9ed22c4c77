from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from mcp import Client

from apex_mcp.caller import Caller
from apex_mcp.server import Connection, build_server, current_connection
from tests.server.notebook import Notebook

if TYPE_CHECKING:
    from apex_mcp.memory import Memory

OpenClient = Callable[..., AbstractAsyncContextManager[Client]]


class NotebookGateway:
    def __init__(self, notebook: Notebook) -> None:
        self.failure: Exception | None = None
        self._notebook = notebook

    async def memory(self) -> "Memory":
        if self.failure is not None:
            raise self.failure
        return cast("Memory", self._notebook)


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def gateway(notebook: Notebook) -> NotebookGateway:
    return NotebookGateway(notebook)


@pytest.fixture(params=["legacy", "2026-07-28"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def connection() -> Connection:
    return Connection(caller=Caller())


@pytest.fixture
def open_client(gateway: NotebookGateway, connection: Connection, era: str) -> OpenClient:
    """An MCP client in this process, in the protocol era of the test."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncGenerator[Client]:
        token = current_connection.set(connection)
        try:
            async with Client(build_server(gateway), mode=era, **options) as client:
                yield client
        finally:
            current_connection.reset(token)

    return opened
