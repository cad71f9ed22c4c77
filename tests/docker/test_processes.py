"""Server and workers as the containers run them: their commands, their environment, the stores with their passwords."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from psycopg.conninfo import conninfo_to_dict

from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.postgres import ADMIN
from apex_mcp.runtime.temporal import EmbeddedTemporal
from tests.docker.databases import as_role, blank_postgres, set_up_databases
from tests.docker.files import (
    DOCKER,
    REPOSITORY,
    environment_of,
    example,
    image_command,
    image_environment,
    run,
    services,
)
from tests.e2e.homes import ERAS, Session
from tests.e2e.servers import Process
from tests.services.redis_server import free_port, running_redis
from tests.waiting import eventually

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="containers run Linux"),
]

SECRETS = {name: f"secret-{name.lower()}" for name, value in example().items() if value == "generate"}
ENVIRONMENT = example() | SECRETS
# What no store of this test has: Neo4j, whose tests are elsewhere, and a model to fetch.
LEFT_OUT = {"APEX_NEO4J_URI", "APEX_NEO4J_USER", "APEX_NEO4J_PASSWORD"}


@dataclass(frozen=True)
class Site:
    """Where the stores of the compose file are on this machine, and where its server listens."""

    folder: Path
    port: int
    addresses: dict[str, str]

    def environment(self, name: str) -> dict[str, str]:
        """What a container has, with the addresses of this machine."""
        given = {**image_environment(), **environment_of(name, ENVIRONMENT)}
        here = {
            "APEX_STAGING": str(self.folder / "staging"),
            "APEX_HOME": str(self.folder / "home"),
            "APEX_HTTP_HOST": "127.0.0.1",
            "APEX_HTTP_PORT": str(self.port),
            "APEX_EMBEDDER": "none",
            **self.addresses,
        }
        kept = {key: value for key, value in given.items() if key not in LEFT_OUT}
        return {"PATH": os.environ["PATH"], **kept, **here}

    def start(self, name: str, log: str) -> Process:
        """What a container runs."""
        return Process(_command(name), self.environment(name), self.folder / log)

    def is_healthy(self) -> bool:
        """By the health check of the image."""
        program = DOCKER / "image" / "healthy.py"
        return run(sys.executable, program, env={"APEX_HTTP_PORT": str(self.port)}).returncode == 0

    @asynccontextmanager
    async def session(self, token: str) -> AsyncGenerator[Session]:
        """A client over HTTP."""
        headers = {"Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{self.port}/mcp"
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(url, http_client=http), mode=ERAS[0]) as client,
        ):
            yield Session(client)


@pytest.fixture
def site() -> Generator[Site]:
    """The stores of the compose file on this machine, with the secrets of .env."""
    with tempfile.TemporaryDirectory(prefix="apex") as name, ExitStack() as stack:
        folder = Path(name).resolve()
        postgres = stack.enter_context(blank_postgres(folder / "postgres"))
        assert set_up_databases(postgres, ENVIRONMENT).returncode == 0
        temporal = EmbeddedTemporal(DataFolder(folder / "temporal").prepare())
        runner = stack.enter_context(asyncio.Runner())
        stack.callback(lambda: runner.run(temporal.stop()))
        address = runner.run(temporal.start())
        redis = stack.enter_context(running_redis(folder))
        port = free_port()
        key = ["--api-key", environment_of("qdrant", ENVIRONMENT)["QDRANT__SERVICE__API_KEY"]]
        qdrant = subprocess.Popen(
            [sys.executable, "-m", "tests.doubles.qdrant_server", "--port", str(port), *key], cwd=REPOSITORY
        )
        stack.callback(qdrant.wait)
        stack.callback(qdrant.kill)
        # As the image's own folder, which the volume takes over.
        (folder / "staging").mkdir(mode=0o700)
        given = conninfo_to_dict(as_role(postgres, ADMIN, "apex"))
        place = f"host={quote(str(given['host']), safe='')}&port={given.get('port', 5432)}"
        yield Site(
            folder,
            free_port(),
            {
                "APEX_DATABASE_URL": f"postgresql://apex:{SECRETS['RECORD_DB_PASSWORD']}@/apex?{place}",
                "APEX_QDRANT_URL": f"http://127.0.0.1:{port}",
                "APEX_TEMPORAL_ADDRESS": address,
                "APEX_REDIS_URL": redis.url,
            },
        )


def _command(name: str) -> list[str]:
    program, *arguments = services()[name].get("command") or image_command()
    found = shutil.which(program, path=str(Path(sys.executable).parent))
    assert found, f"{program} is not installed beside this Python"
    return [found, *arguments]


async def test_the_commands_of_the_containers_take_in_a_note_and_find_it(site: Site) -> None:
    assert not site.is_healthy()
    with ExitStack() as stack:
        names = ["server", *["worker"] * int(ENVIRONMENT["WORKERS"])]
        started = [
            stack.enter_context(site.start(name, f"{number}.log")) for number, name in enumerate(names)
        ]
        await eventually(site.is_healthy, 60)
        for worker in started[1:]:
            worker.says(" works, record ")
        async with site.session(SECRETS["APEX_HTTP_TOKEN"]) as client:
            text = "The harbour of Lund opens in May."
            stored = await client.call("add_memory", text=text, wait_seconds=20)
            assert stored["state"] == "ready"
            found = await client.call("search", query="when does the harbour open")
            assert text in found["hits"][0]["text"]
        # All at once, as Compose stops them.
        for process in started:
            process.popen.terminate()
        assert [process.popen.wait(60) for process in started] == [0, 0, 0]
        logs = "".join(process.log for process in started)
        assert [secret for secret in SECRETS.values() if secret in logs] == []
        assert "harbour" not in logs


@pytest.mark.parametrize(
    "lacking", ["APEX_DATABASE_URL", "APEX_QDRANT_URL", "APEX_STAGING", "APEX_HTTP_TOKEN"]
)
def test_a_container_without_what_it_needs_says_so_and_ends(lacking: str, tmp_path: Path) -> None:
    environment = Site(tmp_path, free_port(), {}).environment("server")
    done = run(*_command("server"), env=environment | {"APEX_HTTP_HOST": "0.0.0.0", lacking: ""})
    assert done.returncode != 0
    assert lacking.removeprefix("APEX_") in done.stderr
    assert [secret for secret in SECRETS.values() if secret in done.stderr] == []
