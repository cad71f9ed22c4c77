"""A model hub on a loopback port: the part of Hugging Face's protocol that fetching a model uses."""

import contextlib
import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """Serves one repository from a folder; a client finds it by `HF_ENDPOINT`.

    Attributes:
        repository: the repository's name, "owner/name".
        folder: its files.
        cut_after_bytes: cut the first large file's first transfer after so many bytes.
        held: while it is set, transfers of files wait.
        paths: the path of every request so far.
        headers: their headers.
        transferring: set when the first transfer was asked for.
    """

    repository: str
    folder: Path
    cut_after_bytes: int | None = None
    held: threading.Event = field(default_factory=threading.Event)
    transferring: threading.Event = field(default_factory=threading.Event)
    paths: list[str] = field(default_factory=list[str])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def __enter__(self) -> Self:
        hub = self

        class Handler(_Handler):
            state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def info(self) -> dict[str, Any]:
        siblings = [
            {"rfilename": path.relative_to(self.folder).as_posix(), "size": path.stat().st_size}
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        ]
        return {"id": self.repository, "modelId": self.repository, "sha": _COMMIT, "siblings": siblings}

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "oid": _COMMIT, "size": one["size"], "path": one["rfilename"]}
            for one in self.info()["siblings"]
        ]


class _Handler(BaseHTTPRequestHandler):
    state: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def _respond(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.state.paths.append(path)
        self.state.headers.append({name.lower(): value for name, value in self.headers.items()})
        api = f"/api/models/{self.state.repository}"
        files = f"/{self.state.repository}/resolve/{_COMMIT}/"
        if path.startswith(f"{api}/tree/"):
            self._send(
                json.dumps(self.state.tree()).encode(), {"Content-Type": "application/json"}, with_body
            )
        elif path == api or path.startswith(f"{api}/revision/"):
            self._send(
                json.dumps(self.state.info()).encode(), {"Content-Type": "application/json"}, with_body
            )
        elif path.startswith(files) and (file := self.state.folder / path.removeprefix(files)).is_file():
            self._send_file(file.read_bytes(), with_body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send_file(self, content: bytes, with_body: bool) -> None:
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": _COMMIT}
        first = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        cut = self.state.cut_after_bytes
        if with_body:
            self.state.transferring.set()
            while self.state.held.is_set():
                time.sleep(0.02)
        if with_body and cut is not None and len(content) > cut and first == 0:
            self.state.cut_after_bytes = None
            self._head(200, len(content), headers)
            self.wfile.write(content[:cut])
            self.close_connection = True
            return
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(content[first:], headers, with_body, status=206 if first else 200)

    def _send(self, content: bytes, headers: dict[str, str], with_body: bool, status: int = 200) -> None:
        self._head(status, len(content), headers)
        if with_body:
            # A client that is gone is what some tests are about.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass
