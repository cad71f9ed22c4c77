"""One client's connection in the daemon: who it is, and its MCP session over the socket."""

import asyncio
import json
from types import TracebackType
from typing import Any, Self, cast

import anyio
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from apex_mcp.runtime import wire
from apex_mcp.server.gateway import Connection, current_connection

# It stays open as long as the client listens; nobody waits for its answer.
_ENDLESS = "subscriptions/listen"


class McpSession:
    """Serves one MCP client, in whichever era of the protocol it opens."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._in_flight: set[str | int] = set()
        self._answered = asyncio.Event()
        self._answered.set()
        self._accepting = True
        self._muted = False

    async def serve(self, server: Server[Any], lifespan_state: Any, connection: Connection) -> None:
        """Return when the client is gone or `leave` has ended the session."""
        current_connection.set(connection)
        try:
            await serve_dual_era_loop(server, _Incoming(self), _Outgoing(self), lifespan_state=lifespan_state)
        finally:
            self._writer.close()

    async def leave(self, farewell: str, *, grace_seconds: float) -> None:
        """End the session so that its pump goes on with the next daemon.

        No further request is taken; those under way may finish within the grace; what is left gets no answer,
        so that the pump sends it again.
        """
        self._accepting = False
        try:
            async with asyncio.timeout(grace_seconds):
                await self._answered.wait()
        except TimeoutError:
            pass
        self._muted = True
        if not self._writer.is_closing():
            self._writer.write(wire.encode({"apex-mcp": farewell}))
        self._writer.close()

    async def read(self) -> SessionMessage | None:
        """The next message, None at the end. A line that is none is answered with an error here."""
        while line := await self._read_line():
            if not self._accepting:
                continue
            try:
                # Not pydantic's own JSON parser: it refuses lone surrogates, and that request got no answer at all.
                data = json.loads(line)
            except (ValueError, RecursionError):
                await self._refuse(None, PARSE_ERROR, "the line is not JSON, or nested too deeply")
                continue
            try:
                message = jsonrpc_message_adapter.validate_python(data, by_name=False)
            except (ValueError, RecursionError):
                await self._refuse(data, INVALID_REQUEST, "the line is no JSON-RPC message")
                continue
            self._note_incoming(message)
            return SessionMessage(message)
        return None

    async def _read_line(self) -> bytes:
        try:
            return await self._reader.readline()
        except (OSError, ValueError):
            # Broken off, or a line beyond the limit, which our own pump never sends.
            return b""

    async def _refuse(self, data: Any, code: int, words: str) -> None:
        """Answer a line that the SDK would drop without a word; its sender may wait for an answer."""
        fields = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
        key = fields.get("id")
        error = ErrorData(code=code, message=words)
        await self.write(
            JSONRPCError(jsonrpc="2.0", id=key if isinstance(key, str | int) else None, error=error)
        )

    async def write(self, message: JSONRPCMessage) -> None:
        """Send a message, unless the session has been left."""
        if self._muted:
            return
        if self._writer.is_closing():
            raise anyio.ClosedResourceError
        self._writer.write(message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
        try:
            await self._writer.drain()
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._finish(message.id)

    def _note_incoming(self, message: JSONRPCMessage) -> None:
        if isinstance(message, JSONRPCRequest):
            if message.method != _ENDLESS:
                self._in_flight.add(message.id)
                self._answered.clear()
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._finish((message.params or {}).get("requestId"))

    def _finish(self, request_id: object) -> None:
        if isinstance(request_id, str | int):
            self._in_flight.discard(request_id)
        if not self._in_flight:
            self._answered.set()


class _Side:
    """One direction of a session, as the SDK sees it. Its socket belongs to the session, so nothing is closed here."""

    def __init__(self, session: McpSession) -> None:
        self._session = session

    async def aclose(self) -> None:
        """Nothing to do."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return None


class _Incoming(_Side):
    """What the client sends."""

    async def receive(self) -> SessionMessage:
        message = await self._session.read()
        if message is None:
            raise anyio.EndOfStream
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage:
        message = await self._session.read()
        if message is None:
            raise StopAsyncIteration
        return message


class _Outgoing(_Side):
    """What the client gets."""

    async def send(self, item: SessionMessage, /) -> None:
        await self._session.write(item.message)
