"""The stdio front end: carries lines between one MCP client and the daemon, and outlives any daemon.

Two threads. The main one reads the client; the other keeps a connection to the daemon and reads
that. They share what a session needs to go on with another daemon: the handshake, the
subscriptions, every request not yet answered.

When a daemon dies, the next one gets the handshake again (its answer is swallowed), then the
requests. Sending again is safe for reads, and for tool calls since each carries an id of the pump's
own by which the daemon knows it. Only what is neither, or has seen several daemons die, is answered
with a retryable error.
"""

import json
import os
import re
import sys
import threading
import time
import uuid
from typing import Any

from apex_mcp import __version__
from apex_mcp.errors import ApexError, Code, InputError, Invariant, Rejected, Unavailable
from apex_mcp.runtime import launch, wire

# What the daemon's own serialiser writes; anything else is parsed.
_RESPONSE = re.compile(rb'\{"jsonrpc":"2\.0","id":(-?\d+|"[^"\\]*"),"(?:result|error)":')

_RESENDABLE = frozenset({
    "initialize",
    "ping",
    "completion/complete",
    "logging/setLevel",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
})
# A request that was in flight when this many daemons crashed may be what crashes them.
_MAX_CRASHES = 2
# A daemon that lived shorter than this is not replaced before somebody asks for something.
_STABLE_SECONDS = 5.0
# A daemon that is silent for so long while a request waits is asked whether it is there, which takes up to 10 s more.
_SILENCE_SECONDS = 12.0
_LOOK_SECONDS = 1.0

# After the client closed its side: MCP clients give a server 2 s before they end it. Who pipes a few lines in and
# closes, perhaps with no daemon up yet, waits for the stores to open, and whoever ends this process is obeyed at once.
_LAST_ANSWERS_SECONDS = 1.5
_FIRST_ANSWERS_SECONDS = 15.0
# It stays open as long as the client listens; nobody waits for its answer.
_ENDLESS = "subscriptions/listen"

_PARSE_ERROR = -32700
_INVALID_REQUEST = -32600
_SERVER_ERROR = -32000


class _Request:
    """A client's request without an answer yet."""

    __slots__ = ("asked_at", "crashes", "key", "line", "method")

    def __init__(self, key: object, method: str, line: bytes) -> None:
        self.key = key
        self.method = method
        self.line = line
        self.crashes = 0
        self.asked_at = time.monotonic()


class Pump:
    """One client's session.

    Args:
        home: the data folder.
        version: our version; an older daemon is replaced.
        module: what to start as the daemon.
        stdin: descriptor that the client writes to.
        stdout: descriptor that the client reads from.
    """

    def __init__(
        self,
        home: str,
        *,
        version: str = __version__,
        module: str = launch.DAEMON_MODULE,
        stdin: int = 0,
        stdout: int = 1,
    ) -> None:
        self._home = home
        self._version = version
        self._module = module
        self._stdin = stdin
        self._stdout = stdout
        self._output = threading.Lock()
        # Guards all that follows; `_changed` wakes whoever waits for a request, an answer or the end.
        self._changed = threading.Condition()
        self._link: launch.Link | None = None
        self._requests: dict[object, _Request] = {}
        self._initialize: _Request | None = None
        self._protocol: object = None
        self._initialized: bytes | None = None
        self._replayed: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, object] = {}
        self._asked_count = 0
        self._eager = True
        self._farewell = ""
        # Answers that are no longer in `_requests` and not yet with the client.
        self._writing = False
        self._stores_answered = False
        self._told: set[str] = set()
        self._heard_at = 0.0

    def run(self) -> None:
        """Serve until the client closes its side."""
        threading.Thread(target=self._keep_connected, daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        with open(self._stdin, "rb", buffering=1 << 18, closefd=False) as lines:
            for line in lines:
                if line.strip():
                    self._from_client(line if line.endswith(b"\n") else line + b"\n")
        self._await_last_answers()

    def _await_last_answers(self) -> None:
        ended = time.monotonic()
        with self._changed:
            while self._writing or any(each.method != _ENDLESS for each in self._requests.values()):
                patience = _LAST_ANSWERS_SECONDS if self._stores_answered else _FIRST_ANSWERS_SECONDS
                left = ended + patience - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            link, self._link = self._link, None
        if link is not None:
            link.close()

    # --- from the client ----------------------------------------------------------------------------------

    def _from_client(self, line: bytes) -> None:
        message = wire.decode(line)
        method, key = message.get("method"), message.get("id")
        if not message:
            self._refuse(None, _PARSE_ERROR, InputError("the line is not a JSON object"))
        elif len(line) > wire.MAX_LINE_BYTES:
            limit = wire.MAX_LINE_BYTES // 1024 // 1024
            too_large = InputError(
                f"the message is larger than {limit} MB",
                code=Code.TOO_LARGE,
                next_step="send the content as a file's path, or in parts",
            )
            self._refuse(key, _INVALID_REQUEST, too_large)
        elif wire.is_too_deep(line):
            limit = wire.MAX_DEPTH
            self._refuse(
                key, _INVALID_REQUEST, InputError(f"the message is nested deeper than {limit} levels")
            )
        elif "method" not in message and not {"result", "error"}.isdisjoint(message):
            self._answer_from_client(message)
        elif not isinstance(method, str):
            self._refuse(key, _INVALID_REQUEST, InputError("the message has no method"))
        elif key is None:
            self._notification_from_client(method, message, line)
        elif isinstance(key, str | int):
            self._request_from_client(key, method, message, line)
        else:
            self._refuse(None, _INVALID_REQUEST, InputError("a request's id is a string or a whole number"))

    def _request_from_client(self, key: object, method: str, message: dict[str, Any], line: bytes) -> None:
        if method == "tools/call":
            line = _with_request_id(message, _object(message, "params"))
        request = _Request(key, method, line)
        with self._changed:
            if method == "initialize":
                self._initialize = request
            elif method == "logging/setLevel":
                self._replayed[method] = message
            elif method == "resources/subscribe":
                self._replayed[_subscription(message)] = message
            elif method == "resources/unsubscribe":
                self._replayed.pop(_subscription(message), None)
            self._requests[key] = request
            link = self._link
            self._changed.notify_all()
        if link is not None:
            link.send(line)

    def _notification_from_client(self, method: str, message: dict[str, Any], line: bytes) -> None:
        with self._changed:
            if method == "notifications/initialized":
                self._initialized = line
            elif method == "notifications/cancelled":
                # Nobody waits for its answer any more, so no other daemon gets it.
                cancelled = _object(message, "params").get("requestId")
                if isinstance(cancelled, str | int):
                    self._requests.pop(cancelled, None)
                self._changed.notify_all()
            link = self._link
        if link is not None:
            link.send(line)

    def _answer_from_client(self, message: dict[str, Any]) -> None:
        with self._changed:
            asked = self._asked.pop(str(message.get("id")), None)
            link = self._link
        # What a daemon asked that is gone, no other one wants to know.
        if asked is not None and link is not None:
            link.send(wire.encode({**message, "id": asked}))

    # --- from the daemon ----------------------------------------------------------------------------------

    def _from_daemon(self, line: bytes) -> None:
        if line.startswith(wire.FAREWELL):
            self._farewell = str(wire.decode(line).get("apex-mcp"))
            return
        response = _RESPONSE.match(line)
        if response:
            self._answer(json.loads(response[1]), line)
            return
        message = wire.decode(line)
        if "method" not in message:
            key = message.get("id")
            if isinstance(key, str | int):
                self._answer(key, line)
            elif "error" in message:
                # About a line that is no message; it has no id to answer to.
                self._write(line)
        elif "id" in message:
            self._ask_client(message)
        elif message["method"] == "notifications/cancelled":
            self._withdraw(message)
        else:
            self._write(line)

    def _answer(self, key: object, line: bytes) -> None:
        """Pass an answer on, once: a late one to a request that was cancelled or answered is dropped."""
        with self._changed:
            request = self._requests.pop(key, None)
            if request is None:
                return
            if request.method == "initialize":
                self._protocol = _protocol_of(wire.decode(line))
            self._stores_answered = self._stores_answered or request.method == "tools/call"
            self._writing = True
        self._write(line)
        self._written()

    def _written(self) -> None:
        with self._changed:
            self._writing = False
            self._changed.notify_all()

    def _ask_client(self, message: dict[str, Any]) -> None:
        # Each daemon counts its requests from the start; the client must see every id once.
        with self._changed:
            self._asked_count += 1
            key = f"apex-mcp/{self._asked_count}"
            self._asked[key] = message["id"]
        self._write(wire.encode({**message, "id": key}))

    def _withdraw(self, message: dict[str, Any]) -> None:
        params = _object(message, "params")
        with self._changed:
            key = next((key for key, asked in self._asked.items() if asked == params.get("requestId")), None)
            if key is None:
                return
            del self._asked[key]
        self._write(wire.encode({**message, "params": {**params, "requestId": key}}))

    def _write(self, line: bytes) -> None:
        view = memoryview(line)
        with self._output:
            while view:
                try:
                    view = view[os.write(self._stdout, view) :]
                except OSError:
                    # The client is gone, and with it the reason to be here.
                    os._exit(0)

    def _refuse(self, key: object, code: int, error: ApexError) -> None:
        key = key if isinstance(key, str | int) else None
        failure = {"code": code, "message": str(error), "data": error.to_dict()}
        self._write(wire.encode({"jsonrpc": "2.0", "id": key, "error": failure}))

    # --- the connection -----------------------------------------------------------------------------------

    def _keep_connected(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._eager or self._requests)
                successor_expected = self._farewell == wire.FAREWELL_MOVED
                self._farewell = ""
            try:
                link = launch.open_link(
                    self._home,
                    wire.MODE_MCP,
                    version=self._version,
                    successor_expected=successor_expected,
                    module=self._module,
                )
                connected = time.monotonic()
                unread = self._introduce(link)
            except ApexError as error:
                self._fail(error)
                continue
            except Exception as error:  # noqa: BLE001  (whatever it was, the session must go on)
                self._fail(Invariant(f"no connection to the daemon ({type(error).__name__})"))
                continue
            if unread is not None:
                self._tell(link.notices)
                self._serve(link, unread)
            link.close()
            self._after_loss(lived_seconds=time.monotonic() - connected)

    def _introduce(self, link: launch.Link) -> list[bytes] | None:
        """Replay the handshake of a session that had one.

        Returns:
            Lines that came before its answer; None when the daemon died meanwhile.

        Raises:
            Rejected: the new daemon would speak another version of the protocol.
        """
        with self._changed:
            if self._initialize is None or self._protocol is None:
                return []
            handshake = wire.decode(self._initialize.line) | {"id": "apex-mcp/handshake"}
            initialized, replayed = self._initialized, list(self._replayed.values())
        link.send(wire.encode(handshake))
        unread: list[bytes] = []
        while line := link.receive():
            message = wire.decode(line)
            if message.get("id") != "apex-mcp/handshake":
                unread.append(line)
                continue
            if _protocol_of(message) != self._protocol:
                link.close()
                raise Rejected(
                    "apex-mcp was replaced by a version that speaks another protocol to this client",
                    code=Code.DAEMON_RESTARTED,
                    next_step="reconnect the client (restart it, or switch the server off and on)",
                )
            if initialized is not None:
                link.send(initialized)
            for number, subscription in enumerate(replayed):
                link.send(wire.encode({**subscription, "id": f"apex-mcp/replayed/{number}"}))
            return unread
        return None

    def _serve(self, link: launch.Link, unread: list[bytes]) -> None:
        with self._changed:
            self._link = link
            waiting = list(self._requests.values())
        for request in waiting:
            link.send(request.line)
        for line in unread:
            self._from_daemon(line)
        while line := link.receive():
            self._heard_at = time.monotonic()
            self._from_daemon(line)

    def _watch(self) -> None:
        """Refuse what waits for a daemon that hangs, before clients give up; its late answers are dropped."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._link is not None and self._waiting())
                since = max(self._heard_at, min(each.asked_at for each in self._waiting()))
            left = since + _SILENCE_SECONDS - time.monotonic()
            if left > 0:
                time.sleep(min(left, _LOOK_SECONDS))
                continue
            try:
                launch.require_answer(self._home)
            except ApexError as error:
                error.unchanged = "what was asked may or may not be carried out"
                self._fail(error)
            self._heard_at = time.monotonic()

    def _waiting(self) -> list[_Request]:
        return [each for each in self._requests.values() if each.method != _ENDLESS]

    def _after_loss(self, *, lived_seconds: float) -> None:
        """Decide which requests the next daemon gets, and whether it is needed at once."""
        given_up: list[_Request] = []
        with self._changed:
            self._link = None
            self._asked.clear()
            crashed = not self._farewell
            # After `apex-mcp stop` the daemon stays away until somebody wants something.
            self._eager = self._farewell != wire.FAREWELL_STOPPED and lived_seconds > _STABLE_SECONDS
            for request in list(self._requests.values()):
                request.crashes += crashed
                if request.method not in _RESENDABLE or request.crashes > _MAX_CRASHES:
                    given_up.append(self._requests.pop(request.key))
            self._writing = True
        for request in given_up:
            lost = Unavailable(
                "the daemon was replaced while it worked on this request",
                code=Code.DAEMON_RESTARTED,
                unchanged="the request may or may not have been carried out",
                next_step="look whether it was, and send it again if not; `apex-mcp logs` says why",
                retry_after_seconds=1,
            )
            self._refuse(request.key, _SERVER_ERROR, lost)
        self._written()

    def _fail(self, error: ApexError) -> None:
        """Answer all that waits with the reason why there is no daemon; the next request tries again."""
        self._tell([str(error)])
        with self._changed:
            self._eager = False
            waiting = list(self._requests.values())
            self._requests.clear()
            self._writing = True
        for request in waiting:
            self._refuse(request.key, _SERVER_ERROR, error)
        self._written()

    def _tell(self, notices: list[str]) -> None:
        """Say something once on stderr, which MCP clients keep in a log for the user."""
        for notice in notices:
            if notice not in self._told:
                self._told.add(notice)
                sys.stderr.write(f"apex-mcp: {notice}\n")


def _with_request_id(message: dict[str, Any], params: dict[str, Any]) -> bytes:
    meta = {wire.REQUEST_ID_META: str(uuid.uuid4())} | _object(params, "_meta")
    return wire.encode({**message, "params": {**params, "_meta": meta}})


def _object(message: dict[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _subscription(message: dict[str, Any]) -> str:
    return f"resource {_object(message, 'params').get('uri')}"


def _protocol_of(response: dict[str, Any]) -> object:
    return _object(response, "result").get("protocolVersion")
