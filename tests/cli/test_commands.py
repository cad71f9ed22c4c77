import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from apex_mcp import __version__
from apex_mcp.caller import Caller
from apex_mcp.cli import ingest, rendering
from apex_mcp.cli.health import table
from apex_mcp.cli.output import for_terminal
from apex_mcp.errors import Code, Unavailable
from apex_mcp.models import Step
from apex_mcp.runtime.client import DaemonClient
from apex_mcp.runtime.doctor import Check
from apex_mcp.runtime.home import DataFolder
from apex_mcp.times import moment
from apex_mcp.views import DocumentView, EntityList, EntityView, FactView, FindingView, ReindexView
from tests.cli.conftest import Run
from tests.server.notebook import Notebook


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("connected")
def test_ingest_makes_a_folder_searchable_and_says_what_it_did(run: Run, tmp_path: Path) -> None:
    write(tmp_path, a="Sales rose.", b="Costs fell.")
    (tmp_path / "c.bin").write_bytes(b"x")
    result = run("ingest", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"ready  {tmp_path / 'a.md'}",
        f"ready  {tmp_path / 'b.md'}",
        "passed over: 1 of unsupported types (1 .bin)",
        "2 searchable",
    ]


@pytest.mark.usefixtures("connected")
def test_ingest_says_what_was_left_out_of_a_file(run: Run, tmp_path: Path, notebook: Notebook) -> None:
    notebook.warnings = ["2 of 400 pages without text"]
    write(tmp_path, a="Sales rose.")
    assert run("ingest", tmp_path).stdout.splitlines() == [
        f"ready  {tmp_path / 'a.md'}",
        "  2 of 400 pages without text",
        "1 searchable",
    ]


@pytest.mark.usefixtures("connected")
def test_ingest_waits_for_what_is_not_ready_at_once(run: Run, tmp_path: Path, notebook: Notebook) -> None:
    notebook.show_steps = (Step.PARSE,)
    write(tmp_path, a="Sales rose.")
    assert run("ingest", tmp_path).stdout.splitlines()[-1] == "1 searchable"


@pytest.mark.usefixtures("connected")
def test_one_failed_file_is_named_with_its_reason_and_the_status_is_1(run: Run, tmp_path: Path) -> None:
    write(tmp_path, good="Sales rose.", empty=" ")
    result = run(
        "ingest", tmp_path, tmp_path / "missing.md", "--meta", "project=apollo", "--meta", "year=2026"
    )
    assert result.exit_code == 1
    assert f"failed  {tmp_path / 'missing.md'}: path_not_found: there is no such file" in result.stdout
    assert f"failed  {tmp_path / 'empty.md'}: empty_content" in result.stdout
    assert result.stdout.splitlines()[-1] == "1 searchable, 2 failed"


@pytest.mark.usefixtures("connected")
def test_ingest_as_json_writes_one_object(run: Run, tmp_path: Path, notebook: Notebook) -> None:
    write(tmp_path, good="Sales rose.", empty=" ")
    result = run("ingest", tmp_path, "--json", "--meta", "year=2026")
    data = json.loads(result.stdout)
    assert (result.exit_code, data["searchable"], data["failed"]) == (1, 1, 1)
    assert data["refused"][0]["error"]["code"] == "empty_content"
    _, caller, given = notebook.calls[-1]
    assert (caller.vouched, given["metadata"]) == (True, {"year": 2026})


@pytest.mark.usefixtures("connected")
def test_ingest_says_what_is_known_when_it_cannot_go_on(
    run: Run, tmp_path: Path, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(caller: Caller, *, ingestion_ids: list[str]) -> None:
        raise Unavailable("the record does not answer", code=Code.RECORD_UNAVAILABLE)

    monkeypatch.setattr(ingest, "_PAGE", 1)
    monkeypatch.setattr(notebook, "get_ingestions", away)
    notebook.show_steps = (Step.PARSE,)
    write(tmp_path, a="Sales rose.", b="Costs fell.")
    result = run("ingest", tmp_path)
    assert result.exit_code == 1
    assert f"failed  {tmp_path / 'b.md'}: record_unavailable" in result.stdout
    assert result.stdout.splitlines()[-1] == "0 searchable, 1 failed, 1 unfinished"
    assert result.stderr.startswith("error: record_unavailable")
    data = json.loads(run("ingest", tmp_path, "--json").stdout)
    assert data["error"]["code"] == data["refused"][0]["error"]["code"] == "record_unavailable"
    assert [one["path"] for one in data["ingestions"]] == [str(tmp_path / "a.md")]


@pytest.mark.usefixtures("connected")
def test_an_empty_folder_is_an_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("ingest", tmp_path / "empty")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "error: path_not_found: there is nothing to ingest here; nothing was changed; "
    )


@pytest.mark.parametrize("paths", [("",), ("here.md", " ")])
def test_an_empty_path_is_no_folder(run: Run, home: Path, paths: tuple[str, ...]) -> None:
    result = run("ingest", *paths)
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "error: invalid_argument: one of the paths is empty; nothing was ingested; "
    )
    assert not home.exists()


@pytest.mark.usefixtures("connected")
def test_a_text_from_stdin_is_found_and_shown(run: Run) -> None:
    added = json.loads(
        run("add", "-", "--title", "Note [b]x[/b]", "--json", stdin="Zoë likes tea. \x1b[31m").stdout
    )
    found = run("search", "tea", "--as-of", "2026-01-01", "--type", "text/plain", "--source", "inline")
    assert "Zoë likes tea. [31m" in found.stdout
    assert "Note [b]x[/b]" in found.stdout
    passage = json.loads(run("search", "tea", "--json").stdout)["hits"][0]["chunk_id"]
    for shown in (run("show", added["document_id"]), run("show", passage)):
        assert "Zoë likes tea." in shown.stdout
    assert json.loads(run("show", added["ingestion_id"], "--json").stdout)["state"] == "ready"
    assert added["document_id"] in run("ls").stdout
    assert added["ingestion_id"] in run("ingestions", "--state", "ready").stdout


@pytest.mark.usefixtures("connected")
def test_times_arrive_as_the_daemon_takes_them(run: Run, notebook: Notebook) -> None:
    run(
        "search", "tea", "--as-of", "2026-01-01", "--after", "2026-01-01T08:00:00+02:00", "--meta", "a=[1, 2]"
    )
    given = notebook.calls[-1][2]
    assert given["as_of"] == moment("", "2026-01-01", end_of_day=True)
    assert given["after"] == moment("", "2026-01-01T06:00:00Z")
    assert given["metadata"] == {"a": [1, 2]}


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(("command", "op"), [("unlink", "split_entity"), ("link", "join_entity")])
def test_entities_are_split_and_joined_by_their_ids(
    run: Run, notebook: Notebook, command: str, op: str
) -> None:
    one, other = uuid4(), uuid4()
    notebook.entities = {"ACME Corp.": "Organization", "ACME Corporation": "Organization"}
    result = run(command, str(one), str(other))
    assert result.exit_code == 0
    assert "ACME Corporation (Organization)" in result.stdout
    (call,) = [given for name, _, given in notebook.calls if name == op]
    assert (call["entity_id"], call["other_id"]) == (one, other)


@pytest.mark.usefixtures("connected")
def test_forgetting_shows_what_would_go_and_does_it_only_when_told_so(
    run: Run, notebook: Notebook, tmp_path: Path
) -> None:
    added = json.loads(run("add", "Ada likes tea.", "--title", "Tea", "--json").stdout)
    shown = run("forget", added["document_id"], "--dry-run")
    assert "would go, from namespace default:" in shown.stdout
    assert "Tea" in shown.stdout
    assert "backup monday.tar" in shown.stdout
    asked = run("forget", added["document_id"], stdin="y\n")
    assert asked.exit_code == 2
    assert len(notebook.texts) == 1
    done = json.loads(run("forget", added["document_id"], "--yes", "--json").stdout)
    assert (done["forgotten"], notebook.texts) == (True, {})
    file = tmp_path / "notes.txt"
    file.write_text("x", "utf-8")
    assert run("forget", "user/address", file, "--yes").exit_code == 1
    assert notebook.calls[-1][2]["keys"] == ["user/address", file.resolve().as_uri()]


@pytest.mark.usefixtures("connected")
def test_an_error_says_what_to_do_and_never_shows_a_trace(run: Run) -> None:
    unknown = uuid4()
    result = run("show", unknown)
    assert (result.exit_code, result.stdout) == (1, "")
    said = f"error: not_found: no document, passage or ingestion has the id {unknown}; nothing was changed; `apex-mcp ls` shows"
    assert result.stderr.startswith(said)
    as_json = run("cancel", uuid4(), "--json")
    assert json.loads(as_json.stdout)["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ingest",),
        ("search",),
        ("search", "x", "--limit", "0"),
        ("search", "x", "--limit", "-1"),
        ("search", "x", "--limit", "1000000"),
        ("search", "x", "--meta", "novalue"),
        ("show", "12"),
        ("show", str(uuid4()), "--page", "0"),
        ("forget",),
        ("forget", "x", "--all"),
        ("nonsense",),
    ],
)
def test_a_wrong_command_line_ends_with_status_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_time_that_is_none_is_said_before_anything_starts(run: Run, home: Path) -> None:
    result = run("search", "x", "--after", "last May")
    assert result.exit_code == 1
    assert "give --after as 2026-03-01" in result.stderr
    assert not home.exists()


def test_status_and_stop_without_a_daemon_start_none(run: Run, home: Path) -> None:
    assert json.loads(run("status", "--json").stdout) == {"running": False}
    assert run("stop").stdout == "not running\n"
    assert not (home / "daemon.json").exists()


@pytest.mark.usefixtures("connected")
def test_doctor_names_a_broken_file_and_looks_at_the_daemon_all_the_same(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('embedder = "none\n', "utf-8")
    result = run("doctor")
    assert result.exit_code == 1
    assert "config.toml in the data folder is not valid TOML, see line 1" in result.stdout
    assert "PostgreSQL" in result.stdout
    assert run("setup").stderr.startswith("error: settings_invalid: config.toml in the data folder")


@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_file_in_the_data_folders_place_is_said(run: Run, home: Path, command: str) -> None:
    home.touch()
    result = run(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: data_folder_unusable: ")


@pytest.mark.parametrize("command", ["status", "stop"])
def test_a_daemon_that_runs_and_does_not_answer_is_named(run: Run, home: Path, command: str) -> None:
    DataFolder(home).prepare()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    holding = (
        "import sys; from apex_mcp.runtime.lock import DaemonLock; "
        "print(DaemonLock(sys.argv[1]).acquire(give_up=lambda: True, timeout_seconds=0), flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", holding, str(home / "daemon.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    told = {"pid": holder.pid, "port": port, "token": "t", "version": __version__, "protocol": 1}
    (home / "daemon.json").write_text(json.dumps(told), "utf-8")
    result = run(command)
    holder.communicate("\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"the daemon (process {holder.pid}) runs and does not answer" in result.stderr
    assert f"kill -9 {holder.pid}" in result.stderr


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("options", "waiting", "said"),
    [
        ((), [2, 0], "3 passages, all with their vectors"),
        (
            ("--no-wait",),
            [2, 0],
            "3 passages, 2 of them still wait for their vectors; that goes on in the background",
        ),
        ((), [2, 2], "3 passages, 2 of them still wait for their vectors; "),
        ((), [1, 1], "3 passages, 1 of them still waits for its vectors; "),
        ((), [], "3 passages, no embedder is set, so search is by words"),
    ],
)
def test_reindex_says_what_is_done_and_what_goes_on(
    run: Run,
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    waiting: list[int],
    said: str,
) -> None:
    async def reindex(caller: Caller, *, store: str = "all") -> AsyncIterator[ReindexView]:
        stores.append(store)
        yield ReindexView(what="passages", number=3)
        for number in waiting:
            yield ReindexView(what="passages that wait for vectors", number=number)

    stores: list[str] = []
    monkeypatch.setattr(notebook, "reindex", reindex, raising=False)
    result = run("reindex", *options)
    assert result.exit_code == 0
    assert said in result.stdout
    assert json.loads(run("reindex", "--json").stdout) == {
        "passages": 3,
        "waiting_for_vectors": waiting[-1] if waiting else None,
    }
    assert run("reindex", "vectors").exit_code == 0
    assert stores == ["all", "all", "vectors"]


@pytest.mark.usefixtures("connected")
def test_reindex_of_the_graph_alone_waits_until_it_is_written(
    run: Run, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reindex(caller: Caller, *, store: str = "all") -> AsyncIterator[ReindexView]:
        assert store == "graph"
        for number in (2, 0):
            yield ReindexView(what="changes that the graph is still to be told", number=number)

    monkeypatch.setattr(notebook, "reindex", reindex, raising=False)
    assert run("reindex", "graph").stdout.splitlines() == ["the graph is written anew"]
    assert run("reindex", "nonsense").exit_code == 2


def finding(
    what: str = "facts have a source", *, differs: int = 0, left: int = 0, note: str = ""
) -> FindingView:
    return FindingView(
        store="record", what=what, compared=5, differs=differs, left=left,
        examples=["0f"] if differs else [], note=note,
    )  # fmt: skip


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("found", "status", "said"),
    [
        ([finding()], 0, "clean: everything is as the record says"),
        ([finding(differs=1)], 0, "clean now: 1 differed and was mended"),
        (
            [finding(differs=2, left=1, note="store the document again")],
            1,
            "2 differ, 1 was mended: the notes above say what helps",
        ),
        ([finding(differs=1, left=1)], 1, "1 differs: `apex-mcp verify --repair` mends what can be"),
        ([finding(differs=2)], 0, "clean now: 2 differed and were mended"),
        (
            [finding(differs=3, left=3)],
            1,
            "3 differ: `apex-mcp verify --repair` mends what can be",
        ),
        (
            [finding(differs=3, left=1, note="store the document again")],
            1,
            "3 differ, 2 were mended: the notes above say what helps",
        ),
    ],
)
def test_verify_says_what_differs_and_ends_with_status_0_only_if_nothing_does(
    run: Run,
    notebook: Notebook,
    monkeypatch: pytest.MonkeyPatch,
    found: list[FindingView],
    status: int,
    said: str,
) -> None:
    asked: list[bool] = []

    async def verify(caller: Caller, *, repair: bool = False) -> AsyncIterator[FindingView]:
        asked.append(repair)
        for one in found:
            yield one

    monkeypatch.setattr(notebook, "verify", verify, raising=False)
    result = run("verify")
    assert result.exit_code == status
    assert result.stdout.splitlines()[-1] == said
    as_json = run("verify", "--repair", "--json")
    assert as_json.exit_code == status
    assert json.loads(as_json.stdout) == {
        "clean": status == 0,
        "findings": [one.model_dump(mode="json") for one in found],
    }
    assert asked == [False, True]


@pytest.mark.usefixtures("connected")
def test_maintain_says_what_it_did(run: Run, maintained: dict[str, int]) -> None:
    assert run("maintain").stdout.splitlines() == ["nothing was to be done"]
    maintained |= {"pruned": 2, "erased": 1, "rewritten": True}
    assert run("maintain", "--erase").stdout.splitlines() == [
        "replaced versions that were pruned: 2",
        "requests to forget that files are rid of now: 1",
        "the memory's files hold nothing any more that was removed from it",
    ]
    assert json.loads(run("maintain", "--json").stdout) == maintained
    maintained |= {"rewritten": False}
    assert "were not written anew" in run("maintain", "--erase").stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", [("search", "x", "--limit", "0"), ("show", "12"), ("nonsense",), ("ingest",)]
)
def test_a_wrong_command_line_is_said_as_json_where_that_was_asked_for(
    run: Run, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert (error["code"], error["unchanged"]) == ("invalid_argument", "nothing was done")
    assert "--help" in error["next_step"]
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("check the spelling; a relative path starts from the client's first root",
         "check the spelling; a relative path starts from the current folder"),
        ("get_ingestion without an id lists the recent ones", "`apex-mcp ingestions` lists the recent ones"),
        ("ask a question, or use list_memories to see what is there",
         "ask a question, or use `apex-mcp ls` to see what is there"),
    ],
)  # fmt: skip
def test_errors_speak_of_commands_in_a_terminal(words: str, shown: str) -> None:
    assert for_terminal(words) == shown


def test_version_and_logs(run: Run, home: Path) -> None:
    assert run("version").stdout == run("--version").stdout == f"apex-mcp {__version__}\n"
    assert run("logs").exit_code == 1
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "daemon.log").write_text("one\ntwo [x]\nthree\n", encoding="utf-8")
    assert run("logs", "-n", "2").stdout == "two [x]\nthree\n"
    assert json.loads(run("logs", "-n", "1", "--json").stdout)["lines"] == ["three"]


@pytest.mark.usefixtures("connected")
def test_doctor_lists_every_check_and_passes_without_a_fault(run: Run) -> None:
    result = run("doctor", "--json")
    checks = {check["name"]: check["state"] for check in json.loads(result.stdout)}
    assert checks["PostgreSQL"] == checks["data folder"] == checks["daemon"] == "ok"
    assert result.exit_code == (1 if "fault" in checks.values() else 0)


@pytest.mark.usefixtures("connected")
def test_doctor_says_how_to_mend_a_fault(run: Run, found: list[Check]) -> None:
    found.append(Check(name="embedder", state="fault", detail="no model", fix="run `apex-mcp setup`"))
    result = run("doctor")
    assert result.exit_code == 1
    assert "run `apex-mcp setup`" in result.stdout


@pytest.mark.usefixtures("connected")
def test_an_ingestion_of_another_memory_is_steered_by_its_name_and_an_empty_name_is_none(
    run: Run, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    async def cancel(caller: Caller, *, ingestion_id: UUID, namespace: str | None = None) -> None:
        asked.append(namespace)
        raise Unavailable("the record does not answer")

    monkeypatch.setattr(notebook, "cancel_ingestion", cancel)
    run("cancel", uuid4(), "--namespace", "work")
    assert asked == ["work"]
    assert run("search", "x", "--namespace", "").exit_code == 2


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.usefixtures("connected")
def test_doctor_sees_an_open_data_folder_wrong_roots_and_an_unused_key(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    monkeypatch.setenv("APEX_ROOTS", "/")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    result = run("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert checks["data folder"]["fix"] == f"chmod 700 '{home}'"
    (home / "thesis.docx").touch()
    checks = {check["name"]: check for check in json.loads(run("doctor", "--json").stdout)}
    assert checks["data folder"]["fix"] == "set APEX_HOME to an empty or a new folder"
    assert checks["roots"]["state"] == "fault"
    assert checks["OPENAI_API_KEY"]["state"] == "hint"
    assert "sk-secret" not in result.output


def test_the_passage_is_highlighted_in_place() -> None:
    view = DocumentView.model_validate({
        "document_id": uuid4(),
        "namespace": "default",
        "key": "k",
        "source": {
            "document_id": uuid4(),
            "version": 1,
            "title": "Report",
            "uri": "",
            "source_type": "inline",
            "media_type": "text/plain",
            "ingested_at": "2026-03-01T12:00:00Z",
        },
        "text": "before THE PASSAGE after",
        "start": 0,
        "end": 24,
        "length": 24,
        "passage_start": 7,
        "passage_end": 18,
    })
    console = Console(force_terminal=True, color_system="standard", width=80)
    with console.capture() as capture:
        console.print(rendering.document(view))
    assert "before \x1b[7mTHE PASSAGE\x1b[0m after" in capture.get()


def test_status_is_for_people() -> None:
    answer = {
        "pid": 7, "uptime_seconds": 3725.4, "rss_bytes": 150_000_000, "data_bytes": 2_400_000_000, "unfinished": None,
        "longest_pause_ms": 12.5,
        "services": [{"name": "worker", "state": "ok", "pid": None, "rss_bytes": None}],
    }  # fmt: skip
    console = Console(width=80)
    with console.capture() as capture:
        console.print(rendering.status(answer))
    assert [" ".join(line.split()) for line in capture.get().splitlines()] == [
        "pid 7",
        "uptime 1 h 2 min",
        "memory 150.0 MB",
        "data 2.4 GB",
        "longest pause 12.5 ms",
        "service state pid memory",
        "worker ok",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (90_061, "1 d 1 h")],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert rendering.duration(seconds) == words


def test_one_is_singular() -> None:
    assert [rendering.counted(count, "mention") for count in (0, 1, 2)] == [
        "0 mentions",
        "1 mention",
        "2 mentions",
    ]
    assert [rendering.counted(count, "entity", "entities") for count in (1, 2)] == ["1 entity", "2 entities"]


def test_a_fact_that_is_past_says_so_also_where_no_line_can_be_struck_through() -> None:
    jane, joined, left = uuid4(), datetime(2024, 5, 1, tzinfo=UTC), datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    fact = FactView(
        fact_id=uuid4(),
        subject_id=jane,
        subject="Jane",
        predicate="works_at",
        object="Globex",
        sentence="Jane works at Globex.",
        valid_at=joined,
        invalid_at=left,
        ended_by=uuid4(),
        current=False,
    )
    entity = EntityView(entity_id=jane, name="Jane", type="Person", mentions=1, facts=[fact])
    console = Console(width=200)
    with console.capture() as captured:
        console.print(rendering.entities(EntityList(namespace="default", entities=[entity])))
    said = "from 2024-05-01, until 2026-03-02 09:30, not true at the asked time, a later fact took its place"
    assert f"Jane works at Globex. ({said})" in captured.get()


@pytest.mark.usefixtures("connected")
def test_doctor_pads_no_line_for_a_program_and_names_what_is_at_fault(
    run: Run, found: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    found.append(Check(name="embedder", state="fault", detail="x" * 200, fix="mend it"))
    lines = run("doctor").stdout.splitlines()
    assert lines == [line.rstrip() for line in lines]

    def fail(client: DaemonClient, op: str, **args: object) -> None:
        raise Unavailable("PostgreSQL could not be started", next_step="look")

    monkeypatch.setattr(DaemonClient, "call", fail)
    checks = json.loads(run("doctor", "--json").stdout)
    assert [check["state"] for check in checks if check["name"] == "daemon"] == ["ok"]
    assert [check["state"] for check in checks if check["name"] == "PostgreSQL"] == ["fault"]


def test_a_table_of_checks_reads_without_unicode_too() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(
            table([Check(name="disk", state="hint", detail="1 GB", fix="free some")], unicode=False)
        )
    assert [line.split() for line in capture.get().splitlines()] == [
        ["hint", "disk", "1", "GB"],
        ["->", "free", "some"],
    ]
