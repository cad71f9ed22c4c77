"""A Qdrant server on a loopback port: the part of its REST API that we use, over the client's own local engine.

For tests in their process: `with QdrantServer() as server: server.url`. For several processes that share an index:
`python -m tests.doubles.qdrant_server --port N --path DIR`, which serves until it is ended.
"""

import argparse
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Self, cast
from urllib.parse import unquote, urlsplit

import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError
from qdrant_client import QdrantClient, models
from qdrant_client.local.local_collection import LocalCollection

VERSION = "1.19.0"

_SELECTOR: TypeAdapter[Any] = TypeAdapter(models.PointsSelector)
_VECTOR_NAME: TypeAdapter[Any] = TypeAdapter(models.VectorNameConfig)


@dataclass
class QdrantServer:
    """A server from `with` to the end of the block.

    Attributes:
        path: folder in which collections outlive the server; None keeps them in memory.
        port: 0 takes a free one.
        version: what it says it is.
        api_key: the only key that is let in; None lets everyone in.
        faults: statuses that the next requests get instead of an answer; 0 cuts the connection.
        requests: method and path of every request so far.
        held: requests wait while it is cleared, those whose method and path `holding` matches.
    """

    path: Path | None = None
    port: int = 0
    version: str = VERSION
    api_key: str | None = None
    faults: deque[int] = field(default_factory=deque[int])
    requests: list[str] = field(default_factory=list[str])
    held: threading.Event = field(default_factory=threading.Event)
    holding: str = ".*"

    def __enter__(self) -> Self:
        self.held.set()
        self.engine = (
            QdrantClient(path=str(self.path), force_disable_check_same_thread=True)
            if self.path is not None
            else QdrantClient(":memory:")
        )
        # The engine is not safe for several threads at once.
        self.lock = threading.Lock()
        state = self

        class Handler(_Handler):
            server_state = state

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.held.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self.lock:
            self.engine.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def collections(self) -> set[str]:
        with self.lock:
            return {one.name for one in self.engine.get_collections().collections}

    def drop(self, collection: str) -> None:
        with self.lock:
            self.engine.delete_collection(collection)


class _Masks(threading.local):
    """Which points a filter lets pass. The engine looks at every point for that, at each question anew."""

    _all: ClassVar[dict[tuple[int, str], np.ndarray]] = {}

    def __init__(self) -> None:
        self._keep = False

    @contextmanager
    def kept(self) -> Generator[None]:
        """Around a question."""
        self._keep = True
        try:
            yield
        finally:
            self._keep = False

    @contextmanager
    def renewed(self) -> Generator[None]:
        """Around a change."""
        try:
            yield
        finally:
            self._all.clear()

    def of(
        self,
        collection: LocalCollection,
        payload_filter: models.Filter | None,
        vector_name: str | None = None,
    ) -> np.ndarray:
        if not self._keep:
            return _calculated(collection, payload_filter, vector_name)
        written = payload_filter.model_dump_json() if payload_filter is not None else ""
        key = id(collection), f"{vector_name} {written}"
        if key not in self._all:
            self._all[key] = _calculated(collection, payload_filter, vector_name)
        return self._all[key]


_MASKS = _Masks()
_calculated = LocalCollection._payload_and_non_deleted_mask
LocalCollection._payload_and_non_deleted_mask = lambda self, payload_filter, vector_name=None: _MASKS.of(
    self, payload_filter, vector_name
)


class _NotThere(Exception):
    """No such collection."""


class _Handler(BaseHTTPRequestHandler):
    server_state: QdrantServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        state = self.server_state
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        state.requests.append(f"{self.command} {path}")
        if re.match(state.holding, f"{self.command} {path}"):
            state.held.wait()
        if state.faults and (status := state.faults.popleft()) != 200:
            if not status:
                self.close_connection = True
                return
            self._answer(status, {"status": {"error": "told to fail"}, "time": 0})
            return
        if state.api_key is not None and self.headers.get("api-key") != state.api_key:
            self._answer(403, {"status": {"error": "Forbidden"}, "time": 0})
            return
        if path == "/":
            self._answer(
                200, {"title": "qdrant - vector search engine", "version": state.version, "commit": "0"}
            )
            return
        self._answer(*self._result(path, sent))

    def _result(self, path: str, sent: bytes) -> tuple[int, dict[str, Any]]:
        routes = [
            (matched, work)
            for method, pattern, work in _ROUTES
            if method == self.command and (matched := re.fullmatch(pattern, path))
        ]
        if not routes:
            return 404, {"status": {"error": f"no route {self.command} {path}"}, "time": 0}
        [(matched, work)] = routes
        name, *further = [unquote(part) for part in matched.groups()] or [""]
        try:
            with self.server_state.lock:
                with _MASKS.kept() if work in _READING else _MASKS.renewed():
                    result = work(self.server_state.engine, name, *further, sent)
        except ValidationError as error:
            return 400, {"status": {"error": f"Format error in JSON body: {error}"}, "time": 0}
        except _NotThere as error:
            return 404, {"status": {"error": f"Not found: Collection `{error}` doesn't exist!"}, "time": 0}
        except ValueError as error:
            status = 409 if "already exists" in str(error) else 400
            return status, {"status": {"error": f"Wrong input: {error}"}, "time": 0}
        return 200, {"result": _plain(result), "status": "ok", "time": 0.0}

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        with suppress(ConnectionError):  # whoever asked has left
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _plain(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return json.loads(result.model_dump_json(exclude_none=True))
    if isinstance(result, list):
        return [_plain(one) for one in cast("list[Any]", result)]
    return result


def _there(engine: QdrantClient, name: str) -> str:
    if not engine.collection_exists(name):
        raise _NotThere(name)
    return name


def _list(engine: QdrantClient, _name: str, _sent: bytes) -> models.CollectionsResponse:
    return engine.get_collections()


def _get(engine: QdrantClient, name: str, _sent: bytes) -> models.CollectionInfo:
    return engine.get_collection(_there(engine, name))


def _exists(engine: QdrantClient, name: str, _sent: bytes) -> dict[str, bool]:
    return {"exists": engine.collection_exists(name)}


def _drop(engine: QdrantClient, name: str, _sent: bytes) -> bool:
    return engine.delete_collection(name)


def _create(engine: QdrantClient, name: str, sent: bytes) -> bool:
    asked = models.CreateCollection.model_validate_json(sent)
    return engine.create_collection(
        name,
        vectors_config=cast("Any", asked.vectors or {}),
        sparse_vectors_config=cast("Any", asked.sparse_vectors),
    )


def _index(engine: QdrantClient, name: str, sent: bytes) -> models.UpdateResult:
    # The local engine looks at every point anyway.
    models.CreateFieldIndex.model_validate_json(sent)
    _there(engine, name)
    return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)


def _name_vector(engine: QdrantClient, name: str, vector: str, sent: bytes) -> Any:
    config = _VECTOR_NAME.validate_json(sent)
    return engine.create_vector_name(_there(engine, name), vector, config)


def _upsert(engine: QdrantClient, name: str, sent: bytes) -> Any:
    asked = models.PointsList.model_validate_json(sent)
    return engine.upsert(_there(engine, name), asked.points)


def _delete(engine: QdrantClient, name: str, sent: bytes) -> Any:
    return engine.delete(_there(engine, name), _SELECTOR.validate_json(sent))


def _set_payload(engine: QdrantClient, name: str, sent: bytes) -> Any:
    asked = models.SetPayload.model_validate_json(sent)
    where = asked.filter or models.PointIdsList(points=asked.points or [])
    return engine.set_payload(_there(engine, name), asked.payload, points=where)


def _batch(engine: QdrantClient, name: str, sent: bytes) -> Any:
    asked = models.UpdateOperations.model_validate_json(sent)
    return engine.batch_update_points(_there(engine, name), asked.operations)


def _retrieve(engine: QdrantClient, name: str, sent: bytes) -> Any:
    asked = models.PointRequest.model_validate_json(sent)
    return engine.retrieve(
        _there(engine, name),
        asked.ids,
        with_payload=asked.with_payload if asked.with_payload is not None else True,
        with_vectors=asked.with_vector or False,
    )


def _query(engine: QdrantClient, name: str, sent: bytes) -> Any:
    asked = models.QueryRequest.model_validate_json(sent)
    # All but the statistics' corpus steers an index that this engine does not have.
    corpus = models.SearchParams(idf=asked.params.idf) if asked.params and asked.params.idf else None
    return engine.query_points(
        _there(engine, name),
        query=cast("Any", asked.query),
        using=asked.using,
        query_filter=asked.filter,
        search_params=corpus,
        limit=asked.limit if asked.limit is not None else 10,
        offset=asked.offset,
        with_payload=asked.with_payload or False,
        with_vectors=asked.with_vector or False,
    )


def _scroll(engine: QdrantClient, name: str, sent: bytes) -> Any:
    asked = models.ScrollRequest.model_validate_json(sent)
    records, following = engine.scroll(
        _there(engine, name),
        scroll_filter=asked.filter,
        limit=asked.limit or 10,
        offset=asked.offset,
        with_payload=asked.with_payload if asked.with_payload is not None else True,
        with_vectors=asked.with_vector or False,
    )
    return {"points": _plain(records), "next_page_offset": following}


def _count(engine: QdrantClient, name: str, sent: bytes) -> Any:
    asked = models.CountRequest.model_validate_json(sent)
    return engine.count(_there(engine, name), count_filter=asked.filter, exact=True)


_ONE = "/collections/([^/]+)"
_ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/collections", _list),
    ("GET", _ONE, _get),
    ("GET", f"{_ONE}/exists", _exists),
    ("PUT", _ONE, _create),
    ("DELETE", _ONE, _drop),
    ("PUT", f"{_ONE}/index", _index),
    ("PUT", f"{_ONE}/vectors/([^/]+)", _name_vector),
    ("PUT", f"{_ONE}/points", _upsert),
    ("POST", f"{_ONE}/points", _retrieve),
    ("POST", f"{_ONE}/points/delete", _delete),
    ("POST", f"{_ONE}/points/payload", _set_payload),
    ("POST", f"{_ONE}/points/batch", _batch),
    ("POST", f"{_ONE}/points/query", _query),
    ("POST", f"{_ONE}/points/scroll", _scroll),
    ("POST", f"{_ONE}/points/count", _count),
]
_READING = (_list, _get, _exists, _retrieve, _query, _scroll, _count)


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", type=Path)
    parser.add_argument("--api-key")
    options = parser.parse_args()
    with QdrantServer(path=options.path, port=options.port, api_key=options.api_key):
        threading.Event().wait()


if __name__ == "__main__":
    main()
