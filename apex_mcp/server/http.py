"""MCP over streamable HTTP: stateless, so that any number of servers can stand behind one address."""

import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from apex_mcp.caller import Caller
from apex_mcp.server.build import ApexServer
from apex_mcp.server.gateway import Connection, current_connection

PATH = "/mcp"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

# A text of the largest size as JSON: up to six bytes a character, and what is around it.
_BYTES_A_CHARACTER = 6
_ENVELOPE_BYTES = 1_000_000

# Whether the server can do its work, and the state of each part by name.
Ready = Callable[[], Awaitable[tuple[bool, dict[str, str]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may come in.

    Attributes:
        token: what clients must send; None lets in whoever can reach the port.
        hosts: names under which clients reach the server, beside those of this machine.
        caller: the rights that all of them have.
    """

    token: str | None
    hosts: tuple[str, ...]
    caller: Caller


def http_app(server: ApexServer, access: Access, *, ready: Ready, max_inline_chars: int) -> ASGIApp:
    """The application: `/mcp`, and for whoever watches over it `/health` (it runs) and `/ready` (it can work)."""
    mcp = server.streamable_http_app(
        streamable_http_path=PATH,
        stateless_http=True,
        # Always given: without it the SDK checks neither Host nor Origin on other addresses than loopback.
        transport_security=_transport_security(access.hosts),
        max_request_body_size=max_inline_chars * _BYTES_A_CHARACTER + _ENVELOPE_BYTES,
    )
    return _Door(mcp, access, ready)


def _transport_security(hosts: tuple[str, ...]) -> TransportSecuritySettings:
    every = [*LOOPBACK, *hosts]
    names = [name for host in every for name in (host, f"{host}:*")]
    origins = [f"{scheme}://{name}" for scheme in ("http", "https") for name in names]
    return TransportSecuritySettings(allowed_hosts=names, allowed_origins=origins)


class _Door:
    """Before everything else: who is there, and whose connection it is."""

    def __init__(self, inner: ASGIApp, access: Access, ready: Ready) -> None:
        self._inner = inner
        self._access = access
        self._ready = ready
        self._token = access.token.encode() if access.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
        elif scope["path"] == "/health":
            await _answer(send, 200, {"status": "ok"})
        elif scope["path"] == "/ready":
            ready, parts = await self._ready()
            await _answer(send, 200 if ready else 503, {"ready": ready, "parts": parts})
        elif not self._knows(scope):
            await _answer(send, 401, {"error": "unauthorized"}, challenge=True)
        else:
            # What handles the request runs in tasks that inherit it.
            current_connection.set(Connection(caller=self._access.caller))
            await self._inner(scope, receive, send)

    def _knows(self, scope: Scope) -> bool:
        if self._token is None:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = bytes(given).partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


async def _answer(send: Send, status: int, body: dict[str, Any], *, challenge: bool = False) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    if challenge:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
