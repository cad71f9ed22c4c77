"""`doctor` and `setup`: is everything in place, and put it there."""

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from apex_mcp.cli.daemon import daemon, is_absent
from apex_mcp.cli.output import AsJson, Output, plain, reports_errors
from apex_mcp.errors import ApexError, Code
from apex_mcp.runtime.home import DataFolder
from apex_mcp.settings import Settings, load_settings

if TYPE_CHECKING:
    from apex_mcp.ingestion.embedding import OnProgress
    from apex_mcp.runtime.doctor import Check

_MARKS = {"ok": ("✓", "green"), "hint": ("·", "yellow"), "fault": ("✗", "red")}

# Whose fault it is that nothing could be looked at.
_AT_FAULT = {
    Code.RECORD_UNAVAILABLE: "PostgreSQL",
    Code.POSTGRES_VERSION: "PostgreSQL",
    Code.TEMPORAL_UNAVAILABLE: "Temporal",
}


@reports_errors
def doctor(as_json: AsJson = False) -> None:
    """Check every part, and say how to mend what is at fault."""
    from apex_mcp.runtime.doctor import Check, local_checks

    output = Output(as_json=as_json)
    try:
        found = asyncio.run(local_checks(load_settings()))
    except ApexError as error:
        found = [Check(name="settings", state="fault", detail=error.message, fix=error.next_step)]
    valid = found[0].name != "settings"
    try:
        # With settings that are not valid none can be started; one that runs has its own.
        with daemon(output, start=valid, notices=valid) as client:
            found.append(Check(name="daemon", state="ok", detail=f"version {client.version}"))
            found.extend(Check.model_validate(check) for check in client.call("doctor"))
    except ApexError as error:
        if not valid and is_absent(error):
            error.message, error.next_step = "not running, and cannot start", "correct the settings first"
        name = _AT_FAULT.get(error.code) or ("stores" if found[-1].name == "daemon" else "daemon")
        found.append(
            Check(name=name, state="fault", detail=f"{error.code}: {error.message}", fix=error.next_step)
        )
    output.show([check.model_dump() for check in found], lambda: table(found, unicode=_unicode(output)))
    if any(check.state == "fault" for check in found):
        raise typer.Exit(1)


def table(found: "list[Check]", *, unicode: bool = True) -> Table:
    """The checks as a table: mark, name, what was found, and what to do."""
    shown = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        shown.add_column(overflow="fold")
    for check in found:
        mark, style = _MARKS[check.state]
        words = plain(check.detail)
        if check.fix:
            words.append(f"\n→ {check.fix}" if unicode else f"\n-> {check.fix}", style=style)
        shown.add_row(Text(mark if unicode else check.state, style=style), plain(check.name), words)
    return shown


def _unicode(output: Output) -> bool:
    return output.console.encoding.lower().startswith("utf")


@reports_errors
def setup(as_json: AsJson = False) -> None:
    """Fetch what the first use would: the Temporal server, the embedding model. A running daemon notices."""
    output = Output(as_json=as_json)
    settings = load_settings()
    done = asyncio.run(_set_up(settings, output))
    output.show(done, lambda: "\n".join(f"{name}: {what}" for name, what in done.items()))
    if os.environ.get("OPENAI_API_KEY") and settings.embedder != "openai":
        output.note("hint: OPENAI_API_KEY is set and not used; APEX_EMBEDDER=openai would use it")


async def _set_up(settings: Settings, output: Output) -> dict[str, str]:
    from apex_mcp.ingestion.embedding import open_embedder
    from apex_mcp.runtime.temporal import find_program

    home = DataFolder(settings.home).prepare()
    program = await find_program(home, settings.temporal_path, output.note)
    done = {"data folder": str(home.path), "Temporal": str(program)}
    embedder = open_embedder(settings, home.models)
    if embedder is None:
        return {**done, "embedder": "none: search is by words only"}
    try:
        with _fetching(output) as on_progress:
            await embedder.prepare(on_progress)
        return {**done, "embedder": embedder.state.text}
    finally:
        await embedder.close()


@contextmanager
def _fetching(output: Output) -> "Generator[OnProgress | None]":
    if not output.errors.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    with Progress(
        TextColumn("fetching the model"), BarColumn(), DownloadColumn(), console=output.errors, transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(
            task, completed=progress.done_bytes, total=progress.total_bytes or None
        )
