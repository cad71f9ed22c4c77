"""A real Neo4j for the tests: fetched by Maven once, started in a folder of its own, or the one that is set.

Tests that use it are marked `pytest.mark.xdist_group("neo4j")`, so that one worker runs them all on one server. Each has a
record of its own, and so sees nothing of the others'.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

_PLACE = Path(__file__).parent / "neo4j"
_CACHE = Path(__file__).parents[2] / ".cache"
_LIBRARIES = _CACHE / "neo4j-5.26.12"
# Up soon, and small.
_JAVA = ("java", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_PAGES_MB = 64
# It goes into no address, but settings hold it, and settings become addresses easily.
_PASSWORD = "p@ss:w/rd?1#"


@dataclass(frozen=True, slots=True)
class Neo4jServer:
    """Where a Neo4j answers."""

    uri: str
    user: str
    password: str


@pytest.fixture(scope="session")
def neo4j(tmp_path_factory: pytest.TempPathFactory) -> Generator[Neo4jServer]:
    """`APEX_TEST_NEO4J_URI` (with `_USER` and `_PASSWORD`), else a server of the tests' own."""
    if lack := lacking():
        # Continuous integration installs both programs: there it is a failure.
        assert not os.environ.get("CI"), lack
        pytest.skip(lack)
    with running(tmp_path_factory.mktemp("neo4j")) as server:
        yield server


def lacking() -> str:
    """Why there can be no server here; empty where there can."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if not missing or os.environ.get("APEX_TEST_NEO4J_URI"):
        return ""
    return f"{' and '.join(missing)} not installed, and APEX_TEST_NEO4J_URI is not set"


@contextmanager
def running(
    folder: Path, *, java: Sequence[str] = _JAVA, pages_mb: int = _PAGES_MB
) -> Generator[Neo4jServer]:
    """A server whose data are in `folder`, or the one that is set."""
    if uri := os.environ.get("APEX_TEST_NEO4J_URI"):
        user = os.environ.get("APEX_TEST_NEO4J_USER", "neo4j")
        yield Neo4jServer(uri, user, os.environ.get("APEX_TEST_NEO4J_PASSWORD", ""))
        return
    with own_server(folder, java=java, pages_mb=pages_mb) as server:
        yield Neo4jServer(server.uri, "neo4j", _PASSWORD)


class Neo4jProcess:
    """A server of the caller's own, to be killed and started again on its data.

    Args:
        folder: its data and its log.
        java: the command that runs it.
        pages_mb: of its page cache.
    """

    user = "neo4j"
    password = _PASSWORD

    def __init__(self, folder: Path, *, java: Sequence[str] = _JAVA, pages_mb: int = _PAGES_MB) -> None:
        self._folder = folder
        self.port = free_port()
        self._command = [
            *java,
            "-cp",
            str(_LIBRARIES / "*"),
            str(_PLACE / "Server.java"),
            str(folder / "data"),
        ]
        self._command += [str(self.port), _PASSWORD, str(pages_mb)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"bolt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        assert said.strip() == b"ready", (self._folder / "log").read_text("utf-8", "replace")[-2000:]

    def kill(self) -> None:
        """End it at once; what it has on disk stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
            self._process = None


@contextmanager
def own_server(
    folder: Path, *, java: Sequence[str] = _JAVA, pages_mb: int = _PAGES_MB
) -> Generator[Neo4jProcess]:
    """A server whose data are in `folder`, which the caller may kill and start again."""
    _fetch()
    server = Neo4jProcess(folder, java=java, pages_mb=pages_mb)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def _fetch() -> None:
    _CACHE.mkdir(exist_ok=True)
    with FileLock(_CACHE / "neo4j.lock"):
        if _LIBRARIES.exists():
            return
        fresh = _CACHE / "neo4j-fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        maven = shutil.which("mvn") or "mvn"  # on Windows a .cmd, which only its whole name starts
        subprocess.run(
            [maven, "-q", "-B", "-f", str(_PLACE / "pom.xml"), "dependency:copy-dependencies",
             "-DincludeScope=runtime", f"-DoutputDirectory={fresh}"],
            check=True,
        )  # fmt: skip
        fresh.rename(_LIBRARIES)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
