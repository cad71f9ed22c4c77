import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from apex_mcp import __version__
from apex_mcp.cli.daemon import is_absent
from apex_mcp.errors import ApexError, Code, InputError, NotFound, Rejected, Unavailable
from apex_mcp.runtime import client, launch, wire
from apex_mcp.runtime.clients import identify, load_client_settings
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.lock import is_held
from apex_mcp.settings import default_home
from tests.runtime.sessions import Session, control, daemons, environment, eventually, info


def knock(home: Path, hello: dict[str, Any], *, protocol: int = wire.PROTOCOL) -> dict[str, Any]:
    """Say hello by hand; the daemon's reply, empty when it closes without one."""
    with socket.create_connection(("127.0.0.1", info(home)["port"])) as sock, sock.makefile("rb") as lines:
        sock.sendall(wire.encode({"apex-mcp": protocol, "challenge": "c"}))
        assert wire.decode(lines.readline())["proof"] == wire.proof(info(home)["token"], "c")
        sock.sendall(wire.encode(hello))
        return wire.decode(lines.readline())


def test_only_the_owner_can_read_where_the_daemon_listens_and_it_listens_on_loopback(home: Path) -> None:
    with control(home):
        assert info(home)["version"] == __version__
        if os.name == "posix":
            assert stat.S_IMODE((home / "daemon.json").stat().st_mode) == 0o600
            assert stat.S_IMODE(home.stat().st_mode) == 0o700
        sockets = psutil.Process(info(home)["pid"]).net_connections()
        assert {listening.laddr[0] for listening in sockets} == {"127.0.0.1"}


def test_a_wrong_token_is_refused_and_closes_the_connection(home: Path) -> None:
    with control(home) as client:
        reply = knock(home, {"mode": "control", "token": "wrong", "version": __version__})
        assert reply["ok"] is False
        assert reply["error"]["code"] == "unauthorized"
        assert client.call("status")["pid"] == info(home)["pid"]


def test_another_protocol_is_refused_with_what_to_do(home: Path) -> None:
    with control(home):
        hello = {"mode": "mcp", "token": info(home)["token"], "version": "0.0.1"}
        reply = knock(home, hello, protocol=wire.PROTOCOL + 1)
        error = wire.error_from(reply["error"])
        assert isinstance(error, Rejected)
        assert "apex-mcp stop" in error.next_step


def test_a_stale_daemon_file_whose_port_is_somebody_elses_gives_nothing_away(home: Path) -> None:
    heard: list[bytes] = []

    def stranger(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            heard.append(lines.readline())
            connection.sendall(wire.encode({"proof": "forged"}))
            heard.append(lines.readline())

    DataFolder(home).prepare()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=stranger, args=(listener,))
        thread.start()
        stale = {
            "pid": 1, "port": listener.getsockname()[1], "token": "old", "version": __version__,
            "protocol": wire.PROTOCOL,
        }  # fmt: skip
        (home / "daemon.json").write_text(json.dumps(stale), "utf-8")
        with control(home) as client:
            assert client.call("status")["version"] == __version__
        thread.join()
    assert heard[1] == b""
    assert b"old" not in heard[0]
    assert info(home)["port"] != stale["port"]


def test_a_stale_daemon_file_whose_port_is_somebody_silents_is_seen_through_without_waiting_for_a_word(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "HELLO_SECONDS", 600)
    DataFolder(home).prepare()
    (home / "daemon.lock").touch()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        stale = {
            "pid": 1, "port": silent.getsockname()[1], "token": "old", "version": __version__,
            "protocol": wire.PROTOCOL,
        }  # fmt: skip
        (home / "daemon.json").write_text(json.dumps(stale), "utf-8")
        with control(home) as client:
            assert client.call("status")["version"] == __version__


@pytest.mark.skipif(os.name != "posix", reason="stops a process with a signal")
def test_a_daemon_that_is_slow_to_answer_is_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with control(home):
        pid: int = info(home)["pid"]
    monkeypatch.setattr(launch, "_SILENCE_SECONDS", 0.01)
    os.kill(pid, signal.SIGSTOP)
    resumed = threading.Timer(0.2, os.kill, (pid, signal.SIGCONT))
    resumed.start()
    with control(home) as client:
        assert client.call("status")["pid"] == pid
    resumed.join()


def test_a_stopped_daemon_whose_process_does_not_end_is_not_taken_for_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_END_SECONDS", 0.0)
    with pytest.raises(Unavailable) as caught:
        client._await_end(os.getpid())
    assert caught.value.details == {"pid": os.getpid()}
    assert not is_absent(caught.value)


def test_stop_returns_when_the_process_is_gone_and_the_folder_is_free(home: Path) -> None:
    with control(home) as client:
        pid: int = client.call("status")["pid"]
        process = psutil.Process(pid)
        client.stop()
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert not is_held(str(home / wire.LOCK_FILE))


def test_a_daemon_that_was_killed_is_replaced_at_the_next_connection(home: Path) -> None:
    with control(home) as client:
        killed = client.call("status")["pid"]
    os.kill(killed, signal.SIGKILL)
    with control(home) as client:
        assert client.call("status")["pid"] != killed


def test_without_start_an_absent_daemon_is_an_error_and_stays_absent(home: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        control(home, start=False)
    assert caught.value.code == Code.DAEMON_UNAVAILABLE
    assert not home.exists()


def test_the_daemon_stops_by_itself_when_nobody_is_connected_and_nothing_is_unfinished(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APEX_IDLE_STOP_SECONDS", "1")
    monkeypatch.setenv("APEX_LOG_LEVEL", "DEBUG")
    with control(home) as client:
        client.call("get_ingestions", ingestion_ids=[str(uuid4())])
        unfinished = home / "staging" / "unfinished"
        unfinished.touch()
    log = home / "logs" / "daemon.log"
    # It looked once, at least, and stayed.
    eventually(lambda: "not idle" in log.read_text("utf-8"))
    assert daemons(home)
    unfinished.unlink()
    eventually(lambda: not daemons(home))
    assert (home / "staging" / "closed").exists()
    assert not (home / "daemon.json").exists()


@pytest.mark.skipif(
    os.name != "posix", reason="Windows has no such signals; there the control channel stops it"
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_daemon_gracefully(home: Path, number: signal.Signals) -> None:
    with control(home) as client:
        client.call("get_ingestions", ingestion_ids=[str(uuid4())])
        os.kill(info(home)["pid"], number)
        eventually(lambda: not daemons(home))
    assert (home / "staging" / "closed").exists()
    assert not (home / "daemon.json").exists()


def test_a_second_daemon_leaves_the_folder_to_the_first(home: Path) -> None:
    with control(home):
        first = info(home)
        second = subprocess.run(
            [sys.executable, "-m", "tests.runtime.tiny", str(home)],
            env=environment(home),
            capture_output=True,
            check=True,
        )
        assert json.loads(second.stdout) == {"running": True}
        assert info(home) == first


def test_the_control_channel_answers_fails_and_streams_as_memory_does(home: Path) -> None:
    with control(home) as client:
        view = client.call("add_memory", text="a note", namespace="mine")
        assert (view["namespace"], view["state"]) == ("mine", "ready")
        good, bad = client.call("get_ingestions", ingestion_ids=[str(uuid4())])
        assert good["state"] == "ready"
        assert bad["error"]["code"] == "empty_content"
        watched = list(client.stream("watch_ingestion", ingestion_id=str(uuid4()), wait_seconds=1))
        assert [item["key"] for item in watched] == ["watched"] * 3
        with pytest.raises(NotFound):
            client.call("get_ingestion", ingestion_id=str(uuid4()))
        for op, arguments in [
            ("get_ingestion", {"ingestion_id": "no id"}),
            ("get_ingestion", {}),
            ("add_memory", {"text": "x", "colour": "red"}),
            ("_wait", {}),
            ("no_such_op", {}),
            ("workflows", {"limit": "many"}),
        ]:
            with pytest.raises(InputError):
                client.call(op, **arguments)
        assert client.call("workflows") == []
        assert client.call("ui").startswith("http://127.0.0.1")
        assert client.call("status")["state"] == "ready"


def test_a_client_hears_when_the_daemon_goes_away_during_its_call(home: Path) -> None:
    with control(home) as client:
        client.call("get_ingestions", ingestion_ids=[str(uuid4())])
        caught: list[ApexError] = []

        def wait() -> None:
            try:
                client.call("search", query="wait")
            except ApexError as error:
                caught.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        eventually(lambda: (home / "staging" / "waiting").exists())
        os.kill(info(home)["pid"], signal.SIGKILL)
        thread.join()
    assert [error.code for error in caught] == [Code.DAEMON_RESTARTED]


def test_the_log_holds_no_content(home: Path) -> None:
    with Session(home) as session, control(home) as client:
        session.initialize()
        session.call("add_memory", text="my secret passphrase")
        with pytest.raises(InputError):
            client.call("get_ingestion", ingestion_id="my secret passphrase")
    assert "passphrase" not in (home / "logs" / "daemon.log").read_text("utf-8")


def test_the_daemon_gets_what_it_needs_of_a_clients_environment_and_no_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APEX_EMBEDDER", "none")
    monkeypatch.setenv("APEX_ROOTS", "/somewhere")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    kept = launch.daemon_environment(str(home))
    assert kept["APEX_EMBEDDER"] == "none"
    assert kept["https_proxy"] == "http://proxy:3128"
    assert kept["APEX_HOME"] == str(home)
    assert kept.keys().isdisjoint({"APEX_ROOTS", "AWS_SECRET_ACCESS_KEY"})


@pytest.mark.parametrize(
    "variables", [{}, {"APEX_HOME": "~/here"}, {"XDG_DATA_HOME": "/data"}, {"XDG_DATA_HOME": "relative"}]
)
def test_the_pump_and_the_settings_agree_on_the_data_folder(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name in ("APEX_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Path(wire.home_folder()) == default_home()


def test_one_setting_that_differs_is_told_of_in_the_singular(home: Path) -> None:
    settings = load_client_settings({"APEX_EMBEDDER": "none"}, home)
    [notice] = identify({"env": {}, "cwd": str(home)}, settings).notices
    assert notice.startswith("this client's APEX_EMBEDDER differs from")
    assert "is not used. To use it run `apex-mcp stop`" in notice


def test_a_name_in_the_file_that_no_setting_has_is_told_of(home: Path) -> None:
    settings = load_client_settings({}, home)
    home.mkdir()
    (home / "config.toml").write_text('namespace = "mine"\nembeder = "none"\n[http]\nport = 1\n', "utf-8")
    [notice] = identify({"env": {}, "cwd": str(home)}, settings).notices
    assert "names what is no setting, and it is not used: embeder, http" in notice


def test_a_broken_file_is_named_at_once_whoever_comes(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('embedder = "none\n', "utf-8")
    with pytest.raises(Rejected) as caught:
        control(home)
    assert caught.value.code == Code.SETTINGS_INVALID
    assert "config.toml in the data folder is not valid TOML, see line 1" in caught.value.message
    with Session(home) as session:
        assert session.initialize()["error"]["data"]["code"] == "settings_invalid"
    eventually(lambda: not daemons(home))
    assert "config.toml" in (home / "logs" / "daemon.log").read_text("utf-8")


def test_a_running_daemon_is_looked_at_and_stopped_whatever_became_of_the_file(home: Path) -> None:
    with control(home):
        (home / "config.toml").write_text('embedder = "none\n', "utf-8")
    with control(home, start=False) as client:
        assert [notice.split(":")[0] for notice in client.notices] == ["settings_invalid"]
        assert client.call("status")["pid"] == info(home)["pid"]
        with pytest.raises(Rejected) as caught:
            client.call("add_memory", text="not with these settings")
        assert caught.value.code == Code.SETTINGS_INVALID
        client.stop()
    assert not daemons(home)


def test_the_pump_imports_nothing_heavy() -> None:
    script = "import sys; import apex_mcp.entry, apex_mcp.runtime.pump; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "apex_mcp.runtime.pump" in loaded
    heavy = {
        "asyncio",
        "dataclasses",
        "mcp",
        "pathlib",
        "platformdirs",
        "psutil",
        "pydantic",
        "ssl",
        "subprocess",
    }
    assert heavy.isdisjoint(loaded)


def test_files_are_named_alike_on_both_sides(home: Path) -> None:
    folder = DataFolder(home)
    assert str(folder.daemon_json) == os.path.join(str(home), wire.INFO_FILE)
    assert str(folder.daemon_lock) == os.path.join(str(home), wire.LOCK_FILE)
