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
    _fetch()
    port = free_port()
    classes = str(_LIBRARIES / "*")
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [
                *java,
                "-cp",
                classes,
                str(_PLACE / "Server.java"),
                str(folder / "data"),
                str(port),
                _PASSWORD,
                str(pages_mb),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert said.strip() == b"ready", (folder / "log").read_text("utf-8", "replace")[-2000:]
            yield Neo4jServer(f"bolt://127.0.0.1:{port}", "neo4j", _PASSWORD)
        finally:
            process.kill()


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
