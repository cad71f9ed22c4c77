"""An OpenAI-compatible server on a loopback port: the real protocol, made-up vectors, faults on demand."""

import base64
import hashlib
import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from apex_mcp.stores.vectors.packing import pack, unit


@dataclass(frozen=True)
class Status:
    """Answer with this status and an error body in OpenAI's form."""

    status: int
    code: str = "server_error"
    retry_after: str | None = None


@dataclass(frozen=True)
class CutConnection:
    """Close the connection in the middle of the answer."""


@dataclass(frozen=True)
class Body:
    """Answer 200 with this body, whatever was asked."""

    body: bytes = b'{"data": [{"index": 0, "embed'


Fault = Status | CutConnection | Body


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class OpenAIServer:
    """A server from `with` to the end of the block.

    Attributes:
        api_key: the only key that is let in; None lets everyone in.
        dimensions: length of the vectors when a request names none.
        models: what it knows; others are a 404.
        latency_seconds: how long each request takes.
        honour_base64: False answers lists of floats whatever is asked, as some servers do.
        requests: every request so far.
        requested: set when the first request is in.
    """

    api_key: str | None = None
    dimensions: int = 64
    models: tuple[str, ...] = ("text-embedding-3-small",)
    latency_seconds: float = 0.0
    honour_base64: bool = True
    requests: list[Request] = field(default_factory=list[Request])
    requested: threading.Event = field(default_factory=threading.Event)
    _faults: deque[Fault] = field(default_factory=deque[Fault])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        state = self

        class Handler(_Handler):
            server_state = state

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def fail_next(self, *faults: Fault) -> None:
        """The next requests meet these faults, one each."""
        with self._lock:
            self._faults.extend(faults)

    def take(self, request: Request) -> Fault | None:
        """Note a request; what is to go wrong with it."""
        with self._lock:
            self.requests.append(request)
            self.requested.set()
            return self._faults.popleft() if self._faults else None


def vector_of(text: str, dimensions: int) -> list[float]:
    """Texts that share words have similar vectors; the same text always the same."""
    total = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        stream = hashlib.shake_256(word.encode("utf-8")).digest(dimensions)
        total = [value + byte / 127.5 - 1 for value, byte in zip(total, stream, strict=True)]
    return unit(total)


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    server_state: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        fault = self.server_state.take(request)
        time.sleep(self.server_state.latency_seconds)
        match fault:
            case Status(status, code, retry_after):
                headers = {"Retry-After": retry_after} if retry_after is not None else {}
                self._answer(status, _error(code, "as the test asked"), headers)
            case CutConnection():
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"data": [')
                self.close_connection = True
            case Body(content):
                self._send(200, content, {})
            case None:
                self._serve(request)

    def _serve(self, request: Request) -> None:
        state = self.server_state
        try:
            if state.api_key and request.headers.get("authorization") != f"Bearer {state.api_key}":
                sent = request.headers.get("authorization", "")
                raise _Refused(401, "invalid_api_key", f"Incorrect API key provided: {sent}")
            if request.path != "/v1/embeddings":
                raise _Refused(404, "unknown_url", f"Unknown request URL: POST {request.path}")
            self._answer(200, _embeddings(state, request.body), {})
        except _Refused as refused:
            self._answer(refused.status, _error(refused.code, str(refused)), {})

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        self._send(status, json.dumps(body).encode("utf-8"), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        try:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            # The client gave up waiting, which is what the tests of latency are about.
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _embeddings(state: OpenAIServer, body: dict[str, Any]) -> dict[str, Any]:
    if body["model"] not in state.models:
        raise _Refused(404, "model_not_found", f"The model `{body['model']}` does not exist")
    texts: list[str] = [body["input"]] if isinstance(body["input"], str) else body["input"]
    if not 1 <= len(texts) <= 2048 or "" in texts:
        raise _Refused(400, "invalid_request_error", f"'$.input' is invalid: {texts}")
    dimensions = body.get("dimensions", state.dimensions)
    encoded = body.get("encoding_format") == "base64" and state.honour_base64
    data: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        vector = vector_of(text, dimensions)
        embedding = base64.b64encode(pack(vector)).decode("ascii") if encoded else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    tokens = sum(len(text.split()) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
