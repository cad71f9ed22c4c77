"""Server and workers as the containers run them: their commands, their environment, the stores with their passwords."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
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
from tests.e2e.servers import Process, Site, Stores
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
            Stores(
                f"postgresql://apex:{SECRETS['RECORD_DB_PASSWORD']}@/apex?{place}",
                f"http://127.0.0.1:{port}",
                address,
                str(folder / "staging"),
                {"APEX_REDIS_URL": redis.url},
            ),
            token=SECRETS["APEX_HTTP_TOKEN"],
        )


def _environment(name: str, site: Site) -> dict[str, str]:
    """What the container has, with the addresses of this machine."""
    given = {**image_environment(), **environment_of(name, ENVIRONMENT)}
    here = {
        "APEX_DATABASE_URL": site.stores.database_url,
        "APEX_QDRANT_URL": site.stores.qdrant_url,
        "APEX_TEMPORAL_ADDRESS": site.stores.temporal_address,
        "APEX_STAGING": site.stores.staging,
        "APEX_HOME": str(site.folder / "home"),
        "APEX_HTTP_HOST": "127.0.0.1",
        "APEX_HTTP_PORT": str(site.port),
        "APEX_EMBEDDER": "none",
        **site.stores.more,
    }
    kept = {key: value for key, value in given.items() if key not in LEFT_OUT}
    return {"PATH": os.environ["PATH"], **kept, **here}


def _start(name: str, site: Site, log: str) -> Process:
    command = services()[name].get("command") or image_command()
    program = shutil.which(command[0], path=str(Path(sys.executable).parent))
    assert program
    return Process([program, *command[1:]], _environment(name, site), site.folder / log)


def _workers(site: Site) -> Iterator[Process]:
    for number in range(int(ENVIRONMENT["WORKERS"])):
        yield _start("worker", site, f"worker-{number}.log")


async def test_the_commands_of_the_containers_take_in_a_note_and_find_it(site: Site) -> None:
    health = [sys.executable, DOCKER / "image" / "healthy.py"]
    port = {"APEX_HTTP_PORT": str(site.port)}
    with ExitStack() as stack:
        assert run(*health, env=port).returncode == 1
        server = stack.enter_context(_start("server", site, "server.log"))
        workers = [stack.enter_context(worker).says(" works, record ") for worker in _workers(site)]
        await eventually(lambda: run(*health, env=port).returncode == 0)
        assert site.status("/mcp") == 401
        async with site.session() as client:
            stored = await client.call(
                "add_memory", text="The harbour of Lund opens in May.", wait_seconds=20
            )
            assert stored["state"] == "ready"
            found = await client.call("search", query="when does the harbour open")
            assert "harbour of Lund" in found["hits"][0]["text"]
        logs = "".join(process.log for process in (server, *workers))
        assert len(workers) == 2
        assert [secret for secret in SECRETS.values() if secret in logs] == []
        assert "harbour" not in logs


@pytest.mark.parametrize(
    "lacking", ["APEX_DATABASE_URL", "APEX_QDRANT_URL", "APEX_STAGING", "APEX_HTTP_TOKEN"]
)
def test_a_container_without_what_it_needs_says_so_and_ends(lacking: str, tmp_path: Path) -> None:
    stores = Stores("postgresql://127.0.0.1:1/apex", "http://127.0.0.1:1", "127.0.0.1:1", str(tmp_path))
    environment = _environment("server", Site(tmp_path, stores)) | {"APEX_HTTP_HOST": "0.0.0.0", lacking: ""}
    [program, *arguments] = image_command()
    found = shutil.which(program, path=str(Path(sys.executable).parent))
    assert found
    done = run(found, *arguments, env=environment)
    assert done.returncode != 0
    assert lacking.removeprefix("APEX_") in done.stderr
    assert [secret for secret in SECRETS.values() if secret in done.stderr] == []
