"""The demo: eight files of one company go in through MCP, and five questions come back with their sources.

Run it with `make demo`. It starts `apex-mcp` as any MCP client does, on a memory of its own in `.demo/`, and
removes that memory at the end. The exit status is 0 only if every question was answered from the right place.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast
from urllib.parse import unquote, urlsplit

import anyio
import psutil
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import CallToolResult, TextContent
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from apex_mcp.models import IngestionState, Step
from apex_mcp.views import Hit, IngestionView, SearchView

REPOSITORY = Path(__file__).resolve().parent.parent
CORPUS = REPOSITORY / "examples" / "demo"
QUESTIONS = CORPUS.parent / "demo_questions.json"
HOME = REPOSITORY / ".demo"

HITS_ASKED = 3
WAIT_SECONDS = 20  # of one call; then the driver asks again
TRIES = 4  # of one call that the server asks to send again
LONGEST_INGESTION_SECONDS = 300
STOP_SECONDS = 10
WIDTH = 100


class Question(TypedDict):
    """One entry of `demo_questions.json`: what a passage of which file has to say, and where in it."""

    question: str
    answer: str
    words: list[str]
    file: str
    page: int | None
    heading: str | None


class Workflow(TypedDict):
    """One workflow as `apex-mcp workflows --json` tells it, read from Temporal itself."""

    id: str
    type: str
    status: str
    duration_ms: int | None
    history_length: int


class DemoError(Exception):
    """Something that ends the demo, in words for the user."""


@dataclass
class Row:
    """One file in the table of ingestions."""

    path: Path
    step: str = ""
    seconds: float | None = None
    view: IngestionView | None = None
    failure: str = ""


def main() -> int:
    console = _console()
    started = time.perf_counter()
    environment = {
        "APEX_EMBEDDER": "none",  # no download; set it to also search by meaning
        **os.environ,
        "APEX_HOME": str(HOME),
        "APEX_ROOTS": str(CORPUS),
    }
    questions = cast(list[Question], json.loads(QUESTIONS.read_text(encoding="utf-8")))
    files = sorted(CORPUS.iterdir())
    try:
        failures = _run(console, environment, files, questions)
    except* (DemoError, MCPError) as errors:
        failures = _messages(errors)

    for failure in failures:
        console.print(Text(f"FAILED: {failure}", style="bold red"))
    seconds = time.perf_counter() - started
    if failures:
        console.print(f"The demo failed after {seconds:.1f} s.")
        return 1
    console.print(
        f"{len(files)} files in, {len(questions)} questions answered with their sources, "
        f"nothing left running: {seconds:.1f} s."
    )
    return 0


def _messages(errors: BaseExceptionGroup[Any]) -> list[str]:
    """The messages in a group: the MCP client puts one group in another."""
    return [
        message
        for error in errors.exceptions
        for message in (
            _messages(cast(Any, error)) if isinstance(error, BaseExceptionGroup) else [str(error)]
        )
    ]


def _console() -> Console:
    console = Console(highlight=False)
    # A terminal that lacks a sign shows '?' instead of failing.
    if (reconfigure := getattr(console.file, "reconfigure", None)) is not None:
        reconfigure(errors="replace")
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    return console


def _run(
    console: Console, environment: dict[str, str], files: list[Path], questions: list[Question]
) -> list[str]:
    """The whole demo on an empty memory, which is removed whatever happens. Returns what went wrong."""
    command = shutil.which("apex-mcp", path=str(Path(sys.executable).parent))
    if command is None:
        raise DemoError("apex-mcp is not installed beside this Python: run `make demo`")
    _remove_memory(command, environment)  # of a demo that was killed
    try:
        server = StdioServerParameters(command=command, env=environment, cwd=REPOSITORY)
        rows, failures = anyio.run(_ingest_and_ask, console, server, files, questions)
        try:
            failures += _show_workflows(console, temporal_workflows(command, environment), rows)
        except DemoError as error:
            failures.append(str(error))
        return failures
    finally:
        _remove_memory(command, environment)


def _remove_memory(command: str, environment: dict[str, str]) -> None:
    """Stop what runs on the demo's own memory, and remove it."""
    if not HOME.exists():
        return
    running = _processes()
    stopped = subprocess.run(
        [command, "stop"], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    if stopped.returncode:
        raise DemoError(f"`apex-mcp stop` failed, {HOME} is left: {stopped.stderr.strip()}")
    _, alive = psutil.wait_procs(running, timeout=STOP_SECONDS)
    if alive:
        raise DemoError(
            f"still running after `apex-mcp stop`: {', '.join(str(process) for process in alive)}"
        )
    shutil.rmtree(HOME)


def _processes() -> list[psutil.Process]:
    """The daemon of the demo's memory, and what it runs."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter(["cmdline"]):
        # Where the system does not tell, it is another user's.
        if str(HOME) in (process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {process, *process.children(recursive=True)}
    return list(found)


async def _ingest_and_ask(
    console: Console, server: StdioServerParameters, files: list[Path], questions: list[Question]
) -> tuple[list[Row], list[str]]:
    """Everything that goes over MCP. Returns the files' rows, and what went wrong."""
    connecting = time.perf_counter()
    rows = [Row(path) for path in files]
    async with Client(server) as client:
        console.print(f"apex-mcp answers over stdio after {time.perf_counter() - connecting:.1f} s.\n")
        with Live(_ingestions(rows), console=console, refresh_per_second=10) as live:
            for row in rows:
                await _ingest(client, row, lambda: live.update(_ingestions(rows)))
        failures = [f"{row.path.name}: {row.failure}" for row in rows if row.failure]
        for number, question in enumerate(questions, 1):
            console.print()
            if not await _ask(console, client, number, question):
                failures.append(f"not answered: {question['question']}")
    return rows, failures


async def _call(
    client: Client, tool: str, arguments: dict[str, Any], progress: ProgressFnT | None = None
) -> dict[str, Any] | str:
    """Call a tool, again where the server says when to. Returns its structured answer, or the text of its error."""
    result = await client.call_tool(tool, arguments, progress_callback=progress)
    for _ in range(TRIES - 1):
        if (pause := _retry_after(result)) is None:
            break
        await anyio.sleep(pause)
        result = await client.call_tool(tool, arguments, progress_callback=progress)
    if result.is_error or result.structured_content is None:
        return " ".join(block.text for block in result.content if isinstance(block, TextContent))
    return result.structured_content


def _retry_after(result: CallToolResult) -> float | None:
    """After how many seconds the same call may work; None for an answer, and for an error that stays one."""
    error = (result.meta or {}).get("apex-mcp/error", {})
    return error.get("retry_after_seconds") if error.get("retryable") else None


# Ingesting


async def _ingest(client: Client, row: Row, redraw: Callable[[], None]) -> None:
    """Ingest one file, showing each step that the server reports, until it is searchable or has failed."""

    async def show_step(progress: float, total: float | None, message: str | None) -> None:
        row.step = (message or "").partition(":")[0]
        redraw()

    started = time.perf_counter()
    answer = await _call(
        client, "ingest_document", {"source": str(row.path), "wait_seconds": WAIT_SECONDS}, show_step
    )
    while not isinstance(answer, str):
        # `get_ingestion` answers with a list, here of one.
        row.view = IngestionView.model_validate(answer.get("ingestions", [answer])[0])
        if row.view.finished or time.perf_counter() - started > LONGEST_INGESTION_SECONDS:
            break
        await anyio.sleep(1)
        answer = await _call(client, "get_ingestion", {"ingestion_id": str(row.view.ingestion_id)})
    row.seconds = time.perf_counter() - started
    row.failure = answer if isinstance(answer, str) else _failure(row.view)
    redraw()


def _failure(view: IngestionView | None) -> str:
    if view is None or not view.finished:
        return f"not finished after {LONGEST_INGESTION_SECONDS} s"
    if view.failure is not None:
        return f"{view.failure.code}: {view.failure.message}; {view.failure.next_step}"
    return "" if view.state is IngestionState.READY else f"ended as {view.state}"


def _ingestions(rows: list[Row]) -> Table:
    table = _new_table("ingest_document")
    table.add_column("File", no_wrap=True, min_width=max(len(row.path.name) for row in rows))
    table.add_column("State", no_wrap=True, min_width=max(map(len, Step)))
    for name in ("Pages", "Chunks", "Version", "Seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        view = row.view
        counts = (view.pages, view.chunks, view.version) if view else (None, None, None)
        state = f"{view.state}, {view.steps_done} of {view.steps_total}" if view else row.step
        table.add_row(
            row.path.name,
            Text(state, style="bold red" if row.failure else "green" if view else ""),
            *(str(count or "") for count in counts),
            "" if row.seconds is None else f"{row.seconds:.2f}",
        )
    return table


def _new_table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


# Asking


async def _ask(console: Console, client: Client, number: int, question: Question) -> bool:
    """Ask, and print the passage that answers with its source. Returns whether there is one."""
    answer = await _call(client, "search", {"query": question["question"], "limit": HITS_ASKED})
    if isinstance(answer, str):
        console.print(Text(answer, style="bold red"))
        return False
    hits = SearchView.model_validate(answer).hits
    good = [hit for hit in hits if _answers(hit, question)]
    body: list[Text] = []
    for hit in (good or hits)[:1]:
        rank = f"\nhit {hits.index(hit) + 1} of {len(hits)}, score {hit.score:.2f}"
        body += [
            _excerpt(hit.text, question["words"], colour=console.color_system is not None),
            Text.assemble(("\n" + _citation(hit), "bold"), rank),
        ]
    if not good:
        place = f"page {question['page']}" if question["page"] else question["heading"] or ""
        expected = f"expected: {question['answer']} ({question['file']} {place})".replace(" )", ")")
        body.append(Text(expected, style="bold red"))
    title = Text(f"{number}. {question['question']}", style="bold")
    console.print(Panel(Group(*body), title=title, title_align="left", box=box.HORIZONTALS))
    return bool(good)


def _answers(hit: Hit, question: Question) -> bool:
    """Right file, right words, and right place where the question names one."""
    page = question["page"]
    return (
        _file_name(hit) == question["file"]
        and all(re.search(_loosely(words), hit.text) for words in question["words"])
        and (page is None or (hit.page is not None and hit.page <= page <= (hit.page_to or hit.page)))
        and (question["heading"] is None or question["heading"] in hit.heading_path)
    )


def _file_name(hit: Hit) -> str:
    return unquote(urlsplit(hit.source.uri).path).rpartition("/")[2]


def _citation(hit: Hit) -> str:
    parts = [_file_name(hit)]
    if hit.page is not None:
        parts.append(
            f"page {hit.page}" if hit.page_to in (None, hit.page) else f"pages {hit.page}-{hit.page_to}"
        )
    if hit.heading_path:
        parts.append(" > ".join(hit.heading_path))
    parts += [f"characters {hit.start}-{hit.end}", f"version {hit.source.version}"]
    return ", ".join(parts)


def _excerpt(text: str, words: list[str], *, colour: bool) -> Text:
    """The lines that hold the words, and a few around them; without colour the words stand between signs."""
    lines = [line.strip() for line in text.replace("\t", " | ").splitlines() if line.strip()]
    kept = "\n".join(lines)
    if found := [match for each in words if (match := re.search(_loosely(each), kept))]:
        first = max(0, kept.count("\n", 0, min(match.start() for match in found)) - 3)
        last = min(len(lines), kept.count("\n", 0, max(match.end() for match in found)) + 3)
        kept = "\n".join(["..."] * (first > 0) + lines[first:last] + ["..."] * (last < len(lines)))
    pattern = "|".join(_loosely(each) for each in words)
    if not colour:
        return Text(re.sub(pattern, lambda match: f">>{match[0]}<<", kept))
    excerpt = Text(kept)
    excerpt.highlight_regex(pattern, "bold black on yellow")
    return excerpt


def _loosely(words: str) -> str:
    """A pattern for these words, however spaced or broken into lines, and not as parts of longer ones."""
    return r"(?<!\w)" + r"\s+".join(re.escape(word) for word in words.split()) + r"(?!\w)"


# The workflows


def temporal_workflows(command: str, environment: dict[str, str]) -> list[Workflow]:
    """Ask Temporal which workflows ran: the command reads them from the server that the daemon runs."""
    asked = subprocess.run(
        [command, "workflows", "--limit", "100", "--json"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if asked.returncode:
        raise DemoError(f"`apex-mcp workflows` failed: {asked.stderr.strip()}")
    return cast(list[Workflow], json.loads(asked.stdout))


def _show_workflows(console: Console, workflows: list[Workflow], rows: list[Row]) -> list[str]:
    """Print what Temporal ran for the files. Returns what is missing."""
    by_id = {workflow["id"]: workflow for workflow in workflows}
    table = _new_table("What Temporal ran for them")
    table.add_column("File", no_wrap=True)
    table.add_column("Workflow, status and id", overflow="fold")
    for name in ("Events", "ms"):
        table.add_column(name, justify="right", no_wrap=True)
    missing: list[str] = []
    for row in rows:
        workflow = by_id.get(row.view.workflow_id or "") if row.view else None
        if workflow is None:
            missing.append(f"Temporal knows no workflow for {row.path.name}")
            continue
        duration = workflow["duration_ms"]
        table.add_row(
            row.path.name,
            f"{workflow['type']}, {workflow['status']}\n{workflow['id']}",
            str(workflow["history_length"]),
            "" if duration is None else str(duration),
        )
    console.print()
    console.print(table)
    return missing


if __name__ == "__main__":
    sys.exit(main())
