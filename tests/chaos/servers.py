"""The server profile under chaos: every store on a server behind a door of its own, one `serve`, two workers."""

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString
from unittest.mock import patch

import anyio
import psutil
import psycopg
from neo4j import GraphDatabase
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import SETTINGS, EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal
from apex_mcp.stores.vectors.qdrant_home import QdrantHome, qdrant_client
from tests.chaos.model import Model
from tests.chaos.plan import Act
from tests.chaos.proxy import Doors, Proxy, doors
from tests.chaos.system import Points, System
from tests.e2e.homes import Session, kill_all
from tests.e2e.servers import Site, Stores
from tests.record.conftest import create_database
from tests.services.neo4j_server import Neo4jProcess, own_server
from tests.services.redis_server import RedisServer, free_port, running_redis

_REPOSITORY = Path(__file__).parents[2]
_LOOK_SECONDS = 0.2
_START_SECONDS = 90.0
_COMMAND_SECONDS = 180.0
_OURS = ("server", "worker")


class QdrantProcess:
    """The double of a Qdrant server on a folder, killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.doubles.qdrant_server", "--port", str(self.port), "--path"]
        self._process = subprocess.Popen([*command, str(self._folder)], cwd=_REPOSITORY)
        _await(self._answers)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/collections", timeout=5).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Supervisor:
    """Starts again what ended, as an orchestrator does: servers and workers end where their stores are not there yet."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._running = {
            "server": [site.process("apex-mcp", "serve")],
            "worker": [site.process("apex-worker"), site.process("apex-worker", "--concurrency", "2")],
        }
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def processes(self, name: str) -> list[psutil.Process]:
        with self._lock:
            return [psutil.Process(one.pid) for one in self._running[name] if one.popen.poll() is None]

    def stop(self) -> None:
        """Ask all of them to stop, and end who does not."""
        self._ended.set()
        self._thread.join()
        for process in [one for some in self._running.values() for one in some]:
            with suppress(subprocess.TimeoutExpired):
                process.terminate()
            process.kill()

    def _keep(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            with self._lock:
                for name, command in (("server", ("apex-mcp", "serve")), ("worker", ("apex-worker",))):
                    self._running[name] = [
                        one if one.popen.poll() is None else self.site.process(*command)
                        for one in self._running[name]
                    ]


@dataclass
class Parts:
    """The stores as processes."""

    postgres: EmbeddedPostgres
    temporal: EmbeddedTemporal
    qdrant: QdrantProcess
    redis: RedisServer
    neo4j: Neo4jProcess
    temporal_folder: Path
    doors: Doors
    proxies: dict[str, Proxy] = field(default_factory=dict[str, Proxy])

    def pid(self, name: str) -> int | None:
        return getattr(self, name).pid

    async def start(self, name: str) -> None:
        part: Any = getattr(self, name)
        if isinstance(part, EmbeddedPostgres | EmbeddedTemporal):
            await part.start()
        else:
            await anyio.to_thread.run_sync(_again, part)


def _again(part: QdrantProcess | RedisServer | Neo4jProcess) -> None:
    part.kill()
    part.start()


class ServersSystem(System):
    """Everything on servers of this machine."""

    profile = "servers"
    targets = ("server", "worker", "parser", "postgres", "temporal", "qdrant", "redis", "neo4j")

    def __init__(self, site: Site, parts: Parts, supervisor: Supervisor, conninfo: str, faults: Path) -> None:
        skipped = {Act.FILL_DISK: "the stores are on servers with disks of their own"}
        super().__init__(files=site.root, faults=faults, staging=Path(site.stores.staging), skipped=skipped)
        self._site = site
        self._parts = parts
        self._supervisor = supervisor
        self._conninfo = conninfo
        self._starting_neo4j: asyncio.Task[None] | None = None

    def session(self) -> AbstractAsyncContextManager[Session]:
        return self._site.session()

    def processes(self, target: str) -> list[psutil.Process]:
        """See `System`."""
        with suppress(psutil.Error):
            if target in _OURS:
                return self._supervisor.processes(target)[:1]
            if target == "parser":
                workers = self._supervisor.processes("worker")
                children = [child for worker in workers for child in worker.children()]
                return [one for one in children if any("pool_child" in word for word in one.cmdline())]
            if target == "neo4j" and self._starting_neo4j is not None and not self._starting_neo4j.done():
                return []  # nobody is there yet
            pid = self._parts.pid(target)
            if pid is not None:
                process = psutil.Process(pid)
                return [process, *process.children(recursive=True)]
        return []

    async def start_again(self, target: str) -> None:
        """See `System`: the supervisor sees to our own processes."""
        if target == "neo4j":
            # It takes its time, and nothing waits for it meanwhile.
            if self._starting_neo4j is None or self._starting_neo4j.done():
                self._starting_neo4j = asyncio.create_task(self._parts.start(target))
        elif target not in (*_OURS, "parser"):
            await self._parts.start(target)

    async def kill_everything(self) -> None:
        """See `System`."""
        stores = [name for name in self.targets if name not in (*_OURS, "parser")]
        ours = [one for name in _OURS for one in self._supervisor.processes(name)]
        found = [*ours, *(one for name in stores for one in self.processes(name))]
        await anyio.to_thread.run_sync(lambda: kill_all(found))
        async with anyio.create_task_group() as tasks:
            for name in stores:
                tasks.start_soon(self.start_again, name)

    async def cut(self, target: str) -> int:
        """See `System`."""
        return await anyio.to_thread.run_sync(lambda: self._parts.doors.cut(self._parts.proxies[target]))

    async def lose_temporal(self) -> None:
        """See `System`."""
        found = self.processes("temporal")
        await anyio.to_thread.run_sync(lambda: kill_all(found))
        for path in DataFolder(self._parts.temporal_folder).temporal.glob("*"):
            path.unlink(missing_ok=True)
        await self._parts.start("temporal")

    async def wipe_index(self) -> None:
        """See `System`: every collection goes."""
        await anyio.to_thread.run_sync(lambda: _drop_collections(self._parts.qdrant.url))

    async def at_rest(self) -> None:
        """See `System`."""
        if self._starting_neo4j is not None:
            await self._starting_neo4j

    def rows(self, query: LiteralString) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._conninfo, autocommit=True) as connection:
            return connection.execute(query).fetchall()

    def run(self, *arguments: str) -> tuple[int, str]:
        """See `System`: by a daemon of its own on the same stores, which the first command starts."""
        given = {
            name if name.startswith("APEX_") else f"APEX_{name}": value
            for name, value in self._site.stores.environment.items()
        }
        home = str(self._site.folder / "commands")
        process = self._site.process("apex-mcp", *arguments, **{**given, "APEX_HOME": home})
        return process.popen.wait(_COMMAND_SECONDS), process.log

    def other_stores(self, model: Model) -> list[str]:
        """See `System`: the graph, and that the cache holds nothing that was forgotten."""
        forgotten = {word for document in model.documents.values() for word in document.forgotten_marks}
        return [*self._graph(model, forgotten), *self._cache(forgotten)]

    def _graph(self, model: Model, forgotten: set[str]) -> list[str]:
        neo4j = self._parts.neo4j
        database: Any = GraphDatabase
        with database.driver(neo4j.uri, auth=(neo4j.user, neo4j.password)) as driver:
            names = sorted(
                row["name"]
                for row in driver.execute_query(
                    "MATCH (n:Entity) WHERE n.name STARTS WITH 'Vessel ' RETURN n.name AS name"
                ).records
            )
            texts = [
                row["text"]
                for row in driver.execute_query("MATCH (n:Episodic) RETURN n.content AS text").records
            ]
        [(passages,)] = self.rows(
            "SELECT count(*) FROM chunks c JOIN versions v ON v.id = c.version_id "
            "WHERE v.revision_from IS NOT NULL AND v.revision_to IS NULL AND v.tombstoned_at IS NULL"
        )
        expected = sorted(
            one.marks(1).entity for one in model.documents.values() if one.expected() is not None
        )
        held = sum(any(word in text for word in forgotten) for text in texts)
        return [
            *(
                [f"graph: {len(texts)} passages, and {passages} in the record"]
                if len(texts) != passages
                else []
            ),
            *(
                [f"graph: {len(names)} vessels, and {len(expected)} are to be there"]
                if names != expected
                else []
            ),
            *([f"graph: {held} passages hold what was forgotten"] if held else []),
        ]

    def _cache(self, forgotten: set[str]) -> list[str]:
        client: Any = Redis
        with client.from_url(self._parts.redis.url) as redis:
            kept: list[bytes] = []
            for key in redis.scan_iter(count=1000):
                # A long string is packed in a dump.
                value = redis.get(key) if redis.type(key) == b"string" else redis.dump(key)
                kept.append(key + b" " + (value or b""))
        held = sum(any(word.encode() in one for word in forgotten) for one in kept)
        return [f"cache: {held} keys hold what was forgotten"] if held else []

    async def points(self) -> Points:
        """See `System`."""
        [(name, record_id, embedder)] = self.rows("SELECT index_name, record_id, embedder FROM identity")
        versions = [row[0] for row in self.rows("SELECT id FROM versions")]
        async with qdrant_client(self._parts.qdrant.url, None) as client:
            index = await QdrantHome(client, record_id).open(
                name,
                record_id=record_id,
                embedder=embedder,
                dimension=None,
                on_lost=lambda: None,
                on_empty=_gone,
            )
            present = await index.version_ids()
            return {one: await index.count(version_id=one) for one in {*present, *versions}}


@contextmanager
def servers_system(**more: str) -> Generator[ServersSystem]:
    """Servers of the run's own; at its end nothing of them is left running."""
    with ExitStack() as stack:
        # A short path: PostgreSQL's socket lies in it.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apex"))).resolve()
        for name in ("files", "faults", "redis", "neo4j", "staging"):
            (folder / name).mkdir()
        parts = _parts(stack, folder)
        direct = create_database(parts.postgres, "template1")
        stores = Stores(
            parts.postgres,
            parts.temporal,
            parts.redis,
            make_conninfo(direct, host="127.0.0.1", port=parts.proxies["postgres"].port),
            f"http://127.0.0.1:{parts.proxies['qdrant'].port}",
            f"127.0.0.1:{parts.proxies['temporal'].port}",
            str(folder / "staging"),
            {
                "REDIS_URL": parts.redis.url.replace(
                    _port_of(parts.redis.url), str(parts.proxies["redis"].port)
                ),
                "NEO4J_URI": f"bolt://127.0.0.1:{parts.proxies['neo4j'].port}",
                "NEO4J_USER": parts.neo4j.user,
                "NEO4J_PASSWORD": parts.neo4j.password,
                "APEX_FAULTS": str(folder / "faults"),
                **more,
            },
        )
        supervisor = Supervisor(Site(folder, stores))
        stack.callback(supervisor.stop)
        site = supervisor.site
        _await(lambda: site.status("/ready") == 200)
        system = ServersSystem(site, parts, supervisor, direct, folder / "faults")
        stack.callback(lambda: system.run("stop"))
        yield system


def _parts(stack: ExitStack, folder: Path) -> Parts:
    runner = stack.enter_context(asyncio.Runner())
    # One daemon needs few connections, a server with several workers more.
    stack.enter_context(patch.dict(SETTINGS, max_connections="150"))
    postgres = EmbeddedPostgres(DataFolder(folder / "postgres").prepare())
    temporal = EmbeddedTemporal(DataFolder(folder / "temporal").prepare())
    stack.callback(lambda: runner.run(postgres.stop()))
    stack.callback(lambda: runner.run(temporal.stop()))
    conninfo, address = runner.run(postgres.start()), runner.run(temporal.start())
    redis = stack.enter_context(running_redis(folder / "redis"))
    neo4j = stack.enter_context(own_server(folder / "neo4j"))
    qdrant = QdrantProcess(folder / "qdrant")
    stack.callback(qdrant.kill)
    qdrant.start()
    opened = stack.enter_context(doors())
    socket = conninfo_to_dict(conninfo)
    parts = Parts(postgres, temporal, qdrant, redis, neo4j, folder / "temporal", opened)
    parts.proxies = {
        "postgres": opened.to_socket(f"{socket['host']}/.s.PGSQL.{socket.get('port', 5432)}"),
        "temporal": opened.to_port(int(address.rpartition(":")[2])),
        "qdrant": opened.to_port(qdrant.port),
        "redis": opened.to_port(int(_port_of(redis.url))),
        "neo4j": opened.to_port(neo4j.port),
    }
    return parts


def _port_of(url: str) -> str:
    return url.rpartition("@")[2].partition("/")[0].rpartition(":")[2]


def _drop_collections(url: str) -> None:
    with urllib.request.urlopen(f"{url}/collections", timeout=30) as answer:
        names = [one["name"] for one in json.load(answer)["result"]["collections"]]
    for name in names:
        request = urllib.request.Request(f"{url}/collections/{name}", method="DELETE")
        urllib.request.urlopen(request, timeout=30).close()


async def _gone() -> None:
    raise AssertionError("the index is not there")


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the servers did not come up"
        time.sleep(0.05)
