import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult

from apex_mcp.runtime import pump
from tests.runtime.sessions import HANDSHAKE, Session, control, daemons, environment, eventually, info
from tests.runtime.tiny import MODULE


def kill_daemon(home: Path) -> int:
    pid: int = info(home)["pid"]
    os.kill(pid, signal.SIGKILL)
    return pid


def notes(home: Path) -> list[str]:
    return list(json.loads((home / "staging" / "notes.json").read_text("utf-8")).values())


def text_of(response: dict[str, object]) -> str:
    return json.dumps(response)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
async def test_the_sdks_client_is_served_in_each_era_and_the_daemon_outlives_it(
    home: Path, mode: str
) -> None:
    def pump() -> StdioServerParameters:
        return StdioServerParameters(
            command=sys.executable, args=["-m", "tests.runtime.tiny_pump"], env=environment(home)
        )

    async with Client(stdio_client(pump()), mode=mode) as client:
        assert "search" in [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("search", {"query": "anything"})
        assert isinstance(result, CallToolResult)
        assert result.structured_content is not None
        assert result.structured_content["query"] == "anything"
        first = info(home)["pid"]
        # The next daemon carries on the same session, in the same era.
        kill_daemon(home)
        result = await client.call_tool("add_memory", {"text": "kept"})
        assert isinstance(result, CallToolResult)
        assert not result.is_error
        second = info(home)["pid"]
    assert second != first
    async with Client(stdio_client(pump()), mode=mode) as client:
        await client.list_tools()
    assert info(home)["pid"] == second


def test_the_daemon_survives_the_end_of_its_first_clients_process_group(home: Path) -> None:
    first = Session(home)
    first.initialize()
    pid = info(home)["pid"]
    first.kill_group()
    with Session(home) as second:
        assert "result" in second.initialize()
    assert info(home)["pid"] == pid


def test_two_starts_at_the_same_instant_make_one_daemon_and_serve_both(home: Path) -> None:
    sessions = [Session(home) for _ in range(4)]
    for session in sessions:
        assert "result" in session.initialize()
    eventually(lambda: len(daemons(home)) == 1)
    for session in sessions:
        assert session.end() == 0


def test_three_sessions_go_on_after_the_daemon_is_killed_in_the_middle_of_their_calls(home: Path) -> None:
    sessions = [Session(home) for _ in range(3)]
    for session in sessions:
        session.initialize()
    asked = [
        (
            session.ask("tools/call", {"name": "search", "arguments": {"query": "wait"}}),
            session.ask("tools/call", {"name": "add_memory", "arguments": {"text": f"wait {number}"}}),
        )
        for number, session in enumerate(sessions)
    ]
    eventually(lambda: (home / "staging" / "notes.json").exists() and len(notes(home)) == 3)
    kill_daemon(home)
    (home / "staging" / "go").touch()
    for session, numbers in zip(sessions, asked, strict=True):
        responses = [session.receive(), session.receive()]
        assert {response["id"] for response in responses} == set(numbers)
        assert all("result" in response for response in responses)
        assert "result" in session.call("search", query="again")
        assert session.silent()
    # Sent to both daemons, kept once.
    assert sorted(notes(home)) == ["wait 0", "wait 1", "wait 2"]
    for session in sessions:
        assert session.end() == 0


def test_a_request_that_kills_every_daemon_is_given_up_and_the_session_goes_on(home: Path) -> None:
    with Session(home) as session:
        session.initialize()
        response = session.call("add_memory", text="crash")
        assert response["error"]["data"]["code"] == "daemon_restarted"
        assert response["error"]["data"]["retryable"]
        assert len((home / "staging" / "crashes").read_text("utf-8")) == 3
        assert "result" in session.call("search", query="still here")


def test_a_method_that_may_not_be_repeated_gets_a_retryable_error_when_its_daemon_dies(home: Path) -> None:
    with Session(home) as session:
        session.initialize()
        session.call("search", query="the stores are up")
        os.kill(info(home)["pid"], signal.SIGSTOP)
        number = session.ask("company/own_method", {})
        session.send({"method": "notifications/cancelled", "params": {"requestId": session.ask("ping")}})
        # The pump has read both when it has read this.
        list_number = session.ask("tools/list")
        kill_daemon(home)
        responses = [session.receive(), session.receive()]
        by_id = {response["id"]: response for response in responses}
        assert by_id[number]["error"]["data"]["code"] == "daemon_restarted"
        assert "result" in by_id[list_number]
        assert session.silent()


def test_a_daemon_that_cannot_start_answers_every_request_with_the_reason_until_it_can(
    tmp_path: Path,
) -> None:
    home = tmp_path / "mistaken"
    home.mkdir()
    (home / "thesis.odt").write_text("mine", "utf-8")
    with Session(home) as session:
        for method in ("initialize", "tools/list"):
            error = session.request(method, {})["error"]
            assert error["data"]["code"] == "data_folder_unusable"
            assert "APEX_HOME" in error["data"]["next_step"]
        assert os.listdir(home) == ["thesis.odt"]
        (home / "thesis.odt").unlink()
        assert "result" in session.initialize()
        assert "data_folder_unusable" in session.stderr
        with control(home) as client:
            client.stop()


def test_services_that_fail_leave_the_handshake_working_and_tools_saying_why(home: Path) -> None:
    (home / "staging").mkdir(parents=True)
    (home / "secrets.json").write_text(json.dumps({"postgres_password": "x"}), "utf-8")
    (home / "staging" / "foreign").touch()
    with Session(home) as session:
        assert "result" in session.initialize()
        assert "result" in session.request("tools/list")
        answer = session.call("search", query="anything")
        assert answer["result"]["isError"]
        assert "PostgreSQL 17" in text_of(answer)


def test_malformed_lines_are_refused_and_the_session_goes_on(home: Path) -> None:
    with Session(home) as session:
        session.initialize()
        process = session._process
        assert process.stdin is not None
        deep = b'{"a":' * 300 + b"1" + b"}" * 300
        refused = {
            b"not json": (-32700, None),
            b"\xff": (-32700, None),
            b"[]": (-32700, None),
            b"[" * 100_000: (-32700, None),
            b'{"jsonrpc":"2.0","id":{},"method":"ping"}': (-32600, None),
            b'{"jsonrpc":"2.0","id":7,"method":7}': (-32600, 7),
            b'{"jsonrpc":"2.0","id":8}': (-32600, 8),
            b'{"id":9,"method":"ping"}': (-32600, 9),
            b'{"method":"notifications/initialized"}': (-32600, None),
            b'{"jsonrpc":"2.0","id":10,"method":"tools/call","params":%s}' % deep: (-32600, 10),
        }
        for line, (code, key) in refused.items():
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = session.receive()
            assert (answer["error"]["code"], answer["id"]) == (code, key), line[:50]
        assert "result" in session.request("ping")


def test_what_is_piped_in_with_no_daemon_up_is_all_answered(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No patience but that with stores that have not answered yet.
    monkeypatch.setattr(pump, "_LAST_ANSWERS_SECONDS", 0)
    (ours, stdin), (stdout, theirs) = os.pipe(), os.pipe()
    with open(stdin, "wb") as client:
        messages: tuple[dict[str, Any], ...] = (
            {"id": 1, "method": "initialize", "params": HANDSHAKE},
            {"method": "notifications/initialized"},
            {
                "id": 2,
                "method": "tools/call",
                "params": {"name": "add_memory", "arguments": {"text": "kept"}},
            },
        )
        for message in messages:
            client.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    pump.Pump(str(home), module=MODULE, stdin=ours, stdout=theirs).run()
    # The other end stays open: the pump's second thread has it, and ends the process when it finds it closed.
    with open(stdout, "rb") as answers:
        os.set_blocking(stdout, False)
        assert [json.loads(line)["id"] for line in answers.readlines()] == [1, 2]
    os.close(ours)
    assert notes(home) == ["kept"]


@pytest.mark.skipif(os.name != "posix", reason="Windows ends processes without a signal")
def test_a_pump_that_waits_for_last_answers_still_ends_at_once_when_told_to(home: Path) -> None:
    session = Session(home)
    session.initialize()
    session.ask("tools/call", {"name": "search", "arguments": {"query": "wait"}})
    eventually(lambda: (home / "staging" / "waiting").exists())
    session.close_stdin()
    os.kill(session.pid, signal.SIGTERM)
    assert session.end() == -signal.SIGTERM


def test_what_is_in_flight_when_the_client_closes_its_side_is_answered(home: Path) -> None:
    session = Session(home)
    session.initialize()
    number = session.ask("tools/call", {"name": "search", "arguments": {"query": "last"}})
    assert session.end() == 0
    assert session.receive()["id"] == number


def test_a_newer_pump_replaces_an_older_daemon_and_older_sessions_go_on_with_it(home: Path) -> None:
    with Session(home) as older:
        older.initialize()
        first = info(home)["pid"]
        with Session(home, "99.0.0") as newer:
            newer.initialize()
            second = info(home)["pid"]
            assert second != first
            assert (home / "staging" / "closed").exists()
            assert "result" in older.call("search", query="anything")
            assert "result" in newer.call("search", query="anything")
            assert info(home)["pid"] == second
            assert len(daemons(home)) == 1


def test_a_stopped_daemon_stays_away_until_its_session_wants_something(home: Path) -> None:
    with Session(home) as session:
        session.initialize()
        with control(home) as client:
            client.stop()
        eventually(lambda: not daemons(home))
        assert not (home / "daemon.json").exists()
        assert "result" in session.call("search", query="anything")
        assert info(home)["pid"]


def test_settings_that_differ_are_named_to_the_model_and_on_stderr_without_their_values(home: Path) -> None:
    with Session(home, APEX_EMBEDDER="none") as first, Session(home, APEX_EMBEDDER="none") as same:
        first.initialize()
        same.initialize()
        assert "APEX_EMBEDDER" not in text_of(same.call("search", query="anything"))
        with Session(
            home, APEX_EMBEDDER="openai", APEX_OPENAI_API_KEY="sk-secret", APEX_ROOTS="/etc"
        ) as other:
            other.initialize()
            answer = text_of(other.call("search", query="anything"))
            assert "APEX_EMBEDDER" in answer
            assert "APEX_OPENAI_API_KEY" in answer
            assert "apex-mcp stop" in answer
            assert "/etc" in answer
            assert " differ from " in answer
            assert "sk-secret" not in answer + other.stderr
            assert "APEX_EMBEDDER" in other.stderr


@pytest.mark.skipif(os.name != "posix", reason="stops a process with a signal")
def test_a_daemon_that_hangs_is_named_in_an_open_session_which_goes_on_when_it_wakes_up(home: Path) -> None:
    with Session(home, TINY_PATIENCE_SECONDS="1") as session:
        session.initialize()
        assert "result" in session.call("search", query="anything")
        pid: int = info(home)["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            error = session.call("search", query="anything")["error"]
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (error["data"]["code"], error["data"]["retryable"]) == ("daemon_unavailable", True)
        assert f"process {pid}" in error["message"]
        # Its late answer is dropped.
        assert "result" in session.call("search", query="anything")
        assert info(home)["pid"] == pid


def test_settings_that_are_not_valid_are_refused_by_name(home: Path) -> None:
    with Session(home, APEX_IDLE_STOP_SECONDS="soon") as session:
        error = session.request("initialize", {})["error"]
        assert error["data"]["code"] == "settings_invalid"
        assert "APEX_IDLE_STOP_SECONDS" in error["message"]


@pytest.mark.anyio
async def test_a_client_that_asks_for_roots_again_answers_each_daemon_once(home: Path) -> None:
    with Session(home) as session:
        session.initialize()
        asked = session.ask("tools/call", {"name": "ingest_document", "arguments": {"source": "a.txt"}})
        question = session.receive()
        assert question["method"] == "roots/list"
        kill_daemon(home)
        again = session.receive()
        assert again["method"] == "roots/list"
        assert again["id"] != question["id"]
        # The first daemon's question is nobody's any more.
        session.send({"id": question["id"], "result": {"roots": [{"uri": "file:///nowhere"}]}})
        session.send({"id": again["id"], "result": {"roots": []}})
        assert session.receive()["id"] == asked
        await anyio.lowlevel.checkpoint()
