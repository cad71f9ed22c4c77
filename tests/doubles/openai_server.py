"""An OpenAI-compatible server on a loopback port: the real protocol, made-up vectors and answers, faults on demand.

`python -m tests.doubles.openai_server --port 8080` runs it alone.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from apex_mcp.stores.vectors.packing import pack, unit
from tests.doubles.chat_model import Spoiling, answer, spoil


@dataclass(frozen=True)
class Status:
    """Answer with this status and an error body in OpenAI's form."""

    status: int
    code: str = "server_error"
    retry_after: str | None = None
    message: str = "as the test asked"


@dataclass(frozen=True)
class CutConnection:
    """Close the connection in the middle of the answer."""


@dataclass(frozen=True)
class Body:
    """Answer 200 with this body, whatever was asked."""

    body: bytes = b'{"data": [{"index": 0, "embed'
    retry_after: str | None = None


@dataclass(frozen=True)
class Redirect:
    """Lead to another path of the same server."""

    path: str


@dataclass(frozen=True)
class Say:
    """Answer a chat with these words of the model, whatever was asked."""

    content: str
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Refuse:
    """Answer a chat with the model's refusal."""


@dataclass(frozen=True)
class Spoil:
    """Answer a chat with what a careless model makes of the right answer."""

    how: Spoiling


Fault = Status | CutConnection | Body | Redirect | Say | Refuse | Spoil


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
        models: what it knows for embeddings; others are a 404.
        chat_models: what it knows for chat; others are a 404.
        response_formats: what it can be asked for; others are a 400, as of some local servers.
        refused_format: what it says of others; `{format}` is the one that was asked for.
        rejected_parameters: fields of a chat that are a 400, as some models do with `temperature`.
        refuses_like_fastapi: whether these are a 422 instead, in the form of servers that are built with it.
        needs_limit: whether a chat that names no longest answer is a 400.
        context_tokens: a chat whose prompt and longest answer are longer is a 400; None lets every length in.
        answer_tokens: a chat that is allowed a longer answer is a 400; None lets every length in.
        refusal: what these say, with the request's own word for its limit as `{limit}`, that itself as `{asked}` and what is
            allowed as `{most}`.
        thought_tokens: what each answer costs besides its words, as far as the request's limit allows.
        says_usage: whether answers say what they cost.
        thoughts_in_total: whether thoughts are counted in the total alone, as by some servers.
        latency_seconds: how long each request takes.
        honour_base64: False answers lists of floats whatever is asked, as some servers do.
        requests: every request so far.
        requested: set when the first request is in.
        tokens_in, tokens_out: what all chats cost.
        most_at_once: most requests that were in at one time.
    """

    api_key: str | None = None
    dimensions: int = 64
    models: tuple[str, ...] = ("text-embedding-3-small",)
    chat_models: tuple[str, ...] = ("gpt-5-mini", "gpt-5-nano", "local")
    response_formats: tuple[str, ...] = ("json_schema", "json_object")
    refused_format: str = "response_format '{format}' is not supported"
    rejected_parameters: tuple[str, ...] = ()
    refuses_like_fastapi: bool = False
    needs_limit: bool = False
    context_tokens: int | None = None
    answer_tokens: int | None = None
    refusal: str = "{limit} is too large: this model supports at most {most} completion tokens"
    thought_tokens: int = 0
    says_usage: bool = True
    thoughts_in_total: bool = False
    port: int = 0
    latency_seconds: float = 0.0
    honour_base64: bool = True
    requests: list[Request] = field(default_factory=list[Request])
    requested: threading.Event = field(default_factory=threading.Event)
    tokens_in: int = 0
    tokens_out: int = 0
    most_at_once: int = 0
    _at_once: int = 0
    _faults: deque[tuple[str, Fault]] = field(default_factory=deque[tuple[str, Fault]])
    _standing: Fault | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        state = self

        class Handler(_Handler):
            server_state = state

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
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

    def fail_next(self, *faults: Fault, path: str = "") -> None:
        """The next requests (to a path that ends so) meet these faults, one each."""
        with self._lock:
            self._faults.extend((path, fault) for fault in faults)

    def fail_chats(self, fault: Fault | None) -> None:
        """Every chat meets this fault, until None is given."""
        with self._lock:
            self._standing = fault

    def chats(self) -> list[Request]:
        """The requests to the chat model so far."""
        with self._lock:
            return [request for request in self.requests if request.path.endswith("/chat/completions")]

    def take(self, request: Request) -> Fault | None:
        """Note a request; what is to go wrong with it."""
        with self._lock:
            self.requests.append(request)
            self.requested.set()
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            for position, (path, fault) in enumerate(self._faults):
                if request.path.endswith(path):
                    del self._faults[position]
                    return fault
            return self._standing if request.path.endswith("/chat/completions") else None

    def done(self) -> None:
        """Note that a request is answered."""
        with self._lock:
            self._at_once -= 1

    def spent(self, tokens_in: int, tokens_out: int) -> None:
        """Note what a chat cost."""
        with self._lock:
            self.tokens_in += tokens_in
            self.tokens_out += tokens_out


def vector_of(text: str, dimensions: int) -> list[float]:
    """Texts that share words have similar vectors; the same text always the same."""
    total = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [text]:
        stream = hashlib.shake_256(word.encode("utf-8")).digest(dimensions)
        total = [value + byte / 127.5 - 1 for value, byte in zip(total, stream, strict=True)]
    return unit(total)


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class _Handler(BaseHTTPRequestHandler):
    server_state: OpenAIServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        fault = self.server_state.take(request)
        try:
            time.sleep(self.server_state.latency_seconds)
            self._meet(request, fault)
        finally:
            self.server_state.done()

    def _meet(self, request: Request, fault: Fault | None) -> None:
        match fault:
            case Status(status, code, retry_after, message):
                self._answer(status, _error(code, message), _when(retry_after))
            case CutConnection():
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"data": [')
                self.close_connection = True
            case Body(content, retry_after):
                self._send(200, content, _when(retry_after))
            case Redirect(path):
                self._send(307, b"", {"Location": path})
            case Say() | Refuse() | Spoil() | None:
                self._serve(request, fault)

    def _serve(self, request: Request, fault: Say | Refuse | Spoil | None) -> None:
        state = self.server_state
        try:
            if state.api_key and request.headers.get("authorization") != f"Bearer {state.api_key}":
                sent = request.headers.get("authorization", "")
                raise _Refused(401, "invalid_api_key", f"Incorrect API key provided: {sent}")
            match request.path:
                case "/v1/embeddings":
                    self._answer(200, _embeddings(state, request.body), {})
                case "/v1/chat/completions":
                    self._answer(200, _chat(state, request.body, fault), {})
                case _:
                    raise _Refused(404, "unknown_url", f"Unknown request URL: POST {request.path}")
        except _Refused as refused:
            if state.refuses_like_fastapi and refused.param:
                self._answer(422, _detail(refused.param, request.body), {})
            else:
                self._answer(refused.status, _error(refused.code, str(refused), refused.param), {})

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


def _chat(state: OpenAIServer, body: dict[str, Any], fault: Say | Refuse | Spoil | None) -> dict[str, Any]:
    if body["model"] not in state.chat_models:
        raise _Refused(404, "model_not_found", f"The model `{body['model']}` does not exist")
    for name in state.rejected_parameters:
        if name in body:
            raise _Refused(400, "unsupported_parameter", f"Unsupported parameter: '{name}'", name)
    asked = body.get("response_format", {"type": "text"})["type"]
    if asked != "text" and asked not in state.response_formats:
        raise _Refused(400, "invalid_request_error", state.refused_format.format(format=asked))
    prompt = "\n".join(message["content"] for message in body["messages"])
    message, finish = _message(prompt, fault)
    if asked == "text" and message["content"] and not isinstance(fault, Say):
        message["content"] = f"Here it is:\n```json\n{message['content']}\n```"
    word = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    limit: int | None = body.get(word)
    tokens_in, words = len(prompt) // 4, len(message["content"] or "") // 4 + 1
    if state.context_tokens is not None and tokens_in + (limit or 1) > state.context_tokens:
        raise _Refused(400, "invalid_request_error", "This model's maximum context length is exceeded")
    if state.answer_tokens is not None and limit is not None and limit > state.answer_tokens:
        said = state.refusal.format(limit=word, asked=limit, most=state.answer_tokens)
        raise _Refused(400, "invalid_value", said)
    if state.needs_limit and limit is None:
        raise _Refused(400, "invalid_request_error", f"{word}: Field required")
    tokens_out = state.thought_tokens + words
    if limit is not None and tokens_out > limit:
        words_left = max(0, limit - state.thought_tokens)
        message["content"], finish, tokens_out = (message["content"] or "")[: 4 * words_left], "length", limit
    state.spent(tokens_in, tokens_out)
    usage = {
        "prompt_tokens": tokens_in,
        "completion_tokens": words if state.thoughts_in_total else tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        **({"usage": usage} if state.says_usage else {}),
    }


def _message(prompt: str, fault: Say | Refuse | Spoil | None) -> tuple[dict[str, Any], str]:
    match fault:
        case Say(content, finish_reason):
            return {"role": "assistant", "content": content, "refusal": None}, finish_reason
        case Refuse():
            return {"role": "assistant", "content": None, "refusal": "I can't help with that."}, "stop"
        case Spoil(how):
            given = spoil(answer(prompt), how)
        case None:
            given = answer(prompt)
    return {"role": "assistant", "content": json.dumps(given), "refusal": None}, "stop"


def _when(retry_after: str | None) -> dict[str, str]:
    return {"Retry-After": retry_after} if retry_after is not None else {}


def _detail(param: str, body: dict[str, Any]) -> dict[str, Any]:
    said = {"type": "extra_forbidden", "loc": ["body", param], "msg": "Extra inputs are not permitted"}
    return {"detail": [{**said, "input": body[param]}]}


def _error(code: str, message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="an OpenAI-compatible server for trying things out")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--latency-seconds", type=float, default=0)
    arguments = parser.parse_args()
    with OpenAIServer(port=arguments.port, latency_seconds=arguments.latency_seconds) as server:
        sys.stderr.write(f"{server.base_url}\n")
        threading.Event().wait()


if __name__ == "__main__":
    main()
