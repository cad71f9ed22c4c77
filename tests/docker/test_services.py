"""What the containers run beside the servers themselves: scripts, health checks, start commands, against real services."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import yaml
from redis.asyncio import Redis
from redis.exceptions import RedisError

from apex_mcp.runtime import temporal
from apex_mcp.runtime.postgres import ADMIN, EmbeddedPostgres
from apex_mcp.runtime.postgres_programs import find_programs
from apex_mcp.stores.record.schema import ensure_schema
from tests.docker.databases import as_role, blank_postgres, set_up_databases
from tests.docker.files import DOCKER, environment_of, example, filled, run, services
from tests.services.redis_server import _program
from tests.services.s3_server import S3Service
from tests.waiting import eventually

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="containers run Linux"),
]

SECRETS = {name: f"secret-{name.lower()}" for name, value in example().items() if value == "generate"}
ENVIRONMENT = example() | SECRETS


@contextmanager
def answering(status: int) -> Generator[tuple[int, list[str]]]:
    """A server that gives every request the same answer; its port, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedPostgres]:
    """A PostgreSQL as its image leaves it: the administrator, and nothing of ours."""
    with blank_postgres(tmp_path_factory.mktemp("home") / "data") as server:
        yield server


async def test_postgres_gets_two_users_who_see_their_own_databases_only(postgres: EmbeddedPostgres) -> None:
    done = set_up_databases(postgres, ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert not [secret for secret in SECRETS.values() if secret in done.stdout + done.stderr]
    apex = as_role(postgres, "apex", "apex", SECRETS["RECORD_DB_PASSWORD"])
    temporal = as_role(postgres, "temporal", "temporal", SECRETS["TEMPORAL_DB_PASSWORD"])
    # Our schema, and the one extension of Temporal's, need no administrator.
    await ensure_schema(apex)
    with psycopg.connect(apex) as connection:
        assert connection.execute("SELECT count(*) FROM identity").fetchone() == (1,)
    for database in ("temporal", "temporal_visibility"):
        with psycopg.connect(temporal, dbname=database) as connection:
            connection.execute("CREATE EXTENSION btree_gin")
    for foreign in ("temporal", "temporal_visibility", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(apex, dbname=foreign).close()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(temporal, dbname="apex").close()


def test_the_options_that_postgres_is_started_with_are_settings_of_it(postgres: EmbeddedPostgres) -> None:
    command = filled(services()["postgres"]["command"], ENVIRONMENT).split()
    options = dict(option.split("=", 1) for option in command if "=" in option)
    assert command == ["postgres", *(word for name in options for word in ("-c", f"{name}={options[name]}"))]
    programs = find_programs(None, None)
    with psycopg.connect(as_role(postgres, ADMIN, "postgres"), autocommit=True) as connection:
        for name, value in options.items():
            # Refused when the name or the value means nothing.
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
        connection.execute("ALTER SYSTEM RESET ALL")
    assert programs.major == services()["postgres"]["image"].split(":")[1].split(".")[0]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_qdrants_health_check_tells_ready_from_not_ready(status: int, code: int) -> None:
    test = services()["qdrant"]["healthcheck"]["test"]
    with answering(status) as (port, asked):
        done = run(*(part.replace("6333", str(port)) for part in test[1:]))
        assert asked == ["/readyz"]
    assert (done.returncode, test[0]) == (code, "CMD")


def test_a_health_check_fails_where_nothing_listens() -> None:
    with answering(200) as (port, _):
        pass
    for name, own in (("qdrant", "6333"), ("neo4j", "7687")):
        test = services()[name]["healthcheck"]["test"]
        assert run(*(part.replace(own, str(port)) for part in test[1:])).returncode != 0


@pytest.mark.parametrize(("status", "code"), [(200, 0), (401, 1), (503, 1)])
def test_our_health_check_asks_whether_it_is_ready_on_the_port_of_the_settings(
    status: int, code: int
) -> None:
    program = DOCKER / "image" / "healthy.py"
    with answering(status) as (port, asked):
        assert run(sys.executable, program, env={"APEX_HTTP_PORT": str(port)}).returncode == code
        assert asked == ["/ready"]
    assert run(sys.executable, program, env={"APEX_HTTP_PORT": str(port)}).returncode == 1


async def test_redis_starts_with_its_password_in_no_process_list_and_ends_when_told(tmp_path: Path) -> None:
    with answering(200) as (port, _):
        pass
    # Redis by the name that the command calls it by, on a port and in a folder of the test's own.
    program = tmp_path / "redis-server"
    program.write_text(
        f'#!/bin/sh\nexec {_program()} "$@" --bind 127.0.0.1 --port {port}\n', encoding="utf-8"
    )
    program.chmod(0o755)
    shell, option, script = services()["redis"]["command"]
    process = subprocess.Popen(  # noqa: ASYNC220  (it is not waited for while it starts)
        [shell, option, script.replace("$$", "$").replace("/data", str(tmp_path))],
        env=environment_of("redis", ENVIRONMENT) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        async with Redis(port=port, password=SECRETS["REDIS_PASSWORD"]) as client:
            await eventually(partial(_answers, client))
            assert await cast(Any, client).config_get("maxmemory", "save") == {
                "maxmemory": "536870912",
                "save": "",
            }
        shown = psutil.Process(process.pid).cmdline()
        assert not [word for word in shown if SECRETS["REDIS_PASSWORD"] in word]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()


async def _answers(client: Redis) -> bool:
    try:
        return bool(await cast(Any, client).ping())
    except RedisError:
        return False


def test_the_bucket_of_the_emulator_is_made_once_and_kept(s3_service: S3Service) -> None:
    staging = "s3://apex-staging-test/memory"
    environment = {
        "PATH": os.environ["PATH"],
        "APEX_STAGING": staging,
        "APEX_S3_ENDPOINT_URL": s3_service.endpoint_url,
        "AWS_ACCESS_KEY_ID": "emulator",
        "AWS_SECRET_ACCESS_KEY": "emulator",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for _ in range(2):
        done = run(sys.executable, DOCKER / "image" / "make_bucket.py", env=environment)
        assert done.returncode == 0, done.stderr
    names = {bucket["Name"] for bucket in s3_service.client().list_buckets()["Buckets"]}
    assert urlsplit(staging).netloc in names


def test_the_bucket_is_refused_where_staging_is_a_folder() -> None:
    environment = environment_of("s3-bucket", ENVIRONMENT)
    done = run(sys.executable, DOCKER / "image" / "make_bucket.py", env=environment)
    assert done.returncode != 0
    assert "names no bucket" in done.stderr


def test_the_emulators_health_check_is_answered_by_the_program_that_the_tests_use(
    s3_service: S3Service,
) -> None:
    test = services()["s3"]["healthcheck"]["test"]
    own = s3_service.endpoint_url.removeprefix("http://")
    assert test[:3] == ["CMD", "python", "-c"]
    assert run(sys.executable, "-c", test[3].replace("127.0.0.1:5000", own)).returncode == 0


@pytest.mark.parametrize("script", [*sorted((DOCKER / "temporal").glob("*.sh")), DOCKER / "make-env.sh"])
def test_scripts_are_plain_shell(script: Path) -> None:
    shell = shutil.which("dash") or "sh"
    assert run(shell, "-n", script).returncode == 0


def test_temporals_dynamic_configuration_is_that_of_the_bundled_server() -> None:
    text = (DOCKER / "temporal" / "dynamic-config.yaml").read_text(encoding="utf-8")
    given = {name: values[0]["value"] for name, values in yaml.safe_load(text).items()}
    bundled = {name: value for name, _, value in (pair.partition("=") for pair in temporal._DYNAMIC_CONFIG)}
    assert {name: str(value).lower() for name, value in given.items()} == bundled
