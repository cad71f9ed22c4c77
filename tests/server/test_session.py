"""What only the wire can carry: lines as a client may send them."""

import asyncio
import json
import socket
from typing import Any

import pytest

from apex_mcp.caller import Caller
from apex_mcp.runtime.connections import McpSession
from apex_mcp.server import Connection, build_server
from tests.server.conftest import NotebookGateway

pytestmark = pytest.mark.anyio

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


async def test_odd_lines_are_answered_and_the_session_goes_on(gateway: NotebookGateway) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    session = McpSession(*await asyncio.open_connection(sock=theirs))
    serving = asyncio.create_task(
        session.serve(build_server(gateway).lowlevel, {}, Connection(caller=Caller()))
    )

    async def ask(line: str) -> dict[str, Any]:
        writer.write(line.encode() + b"\n")
        async with asyncio.timeout(10):
            return json.loads(await reader.readline())

    await ask(json.dumps(HELLO))
    writer.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    call = '{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":{%s}}}'
    lone = [
        await ask(call % (2, "search", r'"query":"a\ud800b"')),
        await ask(call % (3, r"search\ud800", "")),
        await ask(call % (4, "search", r'"\ud800":1')),
    ]
    broken = [await ask("[" * 20_000), await ask("no json"), await ask('{"id":9,"method":"ping"}')]
    fine = await ask(call % (5, "search", '"query":"tea"'))
    assert [(answer["id"], answer["result"]["isError"]) for answer in lone] == [
        (2, True),
        (3, True),
        (4, True),
    ]
    assert "query holds a lone surrogate" in lone[0]["result"]["content"][0]["text"]
    assert [(answer["id"], answer["error"]["code"]) for answer in broken] == [
        (None, -32700),
        (None, -32700),
        (9, -32600),
    ]
    assert (fine["id"], fine["result"]["isError"]) == (5, False)
    writer.close()
    await serving
    await writer.wait_closed()
