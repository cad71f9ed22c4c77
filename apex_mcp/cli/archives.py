"""Commands that take a memory along: archives of it, and backups of the data folder."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from apex_mcp.cli.daemon import daemon, is_absent
from apex_mcp.cli.output import AsJson, Output, reports_errors
from apex_mcp.errors import ApexError
from apex_mcp.views import ExportView, ImportView
from apex_mcp.wording import byte_size, counted

Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]

# What became of documents, as people say it.
_FATES = {
    "imported": "imported",
    "unchanged": "here already",
    "kept": "newer here, and kept",
    "forgotten": "forgotten, and left out",
}


@reports_errors
def export(
    file: Annotated[Path, typer.Argument(help="The archive to write, a zip file.")],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only this memory; else all.")
    ] = None,
    originals: Annotated[
        bool,
        typer.Option("--originals", help="Add the files that documents came from, where they are unchanged."),
    ] = False,
    past: Annotated[bool, typer.Option(help="Take replaced versions along.")] = True,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a memory into one file, for another memory to import."""
    output = Output(as_json=as_json)
    last: dict[str, Any] = {}
    try:
        with daemon(output) as client, _bar(output) as advance:
            for last in client.stream(
                "export_archive",
                path=str(file.expanduser().absolute()),
                namespace=namespace,
                originals=originals,
                past=past,
                force=force,
            ):
                advance("exporting", last["done"], last["total"])
    except KeyboardInterrupt:
        output.note("interrupted: no archive was made")
        raise typer.Exit(130) from None
    made = ExportView.model_validate(last["archive"])
    output.show(made, lambda: _exported(made))


def _exported(made: ExportView) -> str:
    lines = [
        f"{counted(made.documents, 'document')} ({counted(made.versions, 'version')}) of "
        f"{', '.join(made.namespaces) or 'no memory'} in {made.path}, {byte_size(made.bytes)}"
    ]
    if made.originals is not None:
        lines.append(
            f"{counted(made.originals, 'original file')}, {made.originals_missing} not there or changed"
        )
    if made.pending_ingestions:
        lines.append(f"{counted(made.pending_ingestions, 'ingestion')} not over yet, and not in it")
    return "\n".join(lines)


@reports_errors
def import_(
    file: Annotated[Path, typer.Argument(help="An archive that `apex-mcp export` made.")],
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="NAMESPACE", help="The memory it goes into; else of the same name."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add what an archive holds; again, it adds only what is not here."""
    output = Output(as_json=as_json)
    last: dict[str, Any] = {}
    try:
        with daemon(output) as client, _bar(output) as advance:
            for last in client.stream("import_archive", path=str(file.expanduser().absolute()), into=into):
                advance(last["what"], last["done"], last["total"])
    except KeyboardInterrupt:
        output.note("interrupted: what is stored stays; run the same command again to carry on")
        raise typer.Exit(130) from None
    result = ImportView.model_validate(last["result"])
    output.show(result, lambda: _imported(result))


def _imported(result: ImportView) -> str:
    counts = [f"{number} {_FATES[fate]}" for fate, number in result.documents.items() if number]
    lines = [
        f"documents into {', '.join(result.namespaces) or 'no memory'}: {', '.join(counts) or 'none'} "
        f"({counted(result.versions, 'version')} stored)"
    ]
    if result.versions and not result.times_kept:
        lines.append(
            "this memory held something already: for `known_at`, what was imported is known from now on"
        )
    if result.waiting_for_vectors:
        lines.append(f"{counted(result.waiting_for_vectors, 'passage waits', 'passages wait')} for vectors")
    return "\n".join(lines)


@reports_errors
def backup(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the data folder into one file, while everything goes on; for `restore`."""
    output = Output(as_json=as_json)
    path = file.expanduser().absolute()
    size = 0
    try:
        with daemon(output) as client, _bar(output) as advance:
            for size in client.stream("backup", path=str(path), force=force):
                advance(f"backing up: {byte_size(size)}", 0, 0)
    except KeyboardInterrupt:
        output.note("interrupted: no backup was made")
        raise typer.Exit(130) from None
    made = {"path": str(path), "bytes": size}
    output.show(made, lambda: f"{path}, {byte_size(size)}; without secrets and indexes, which are made anew")


@reports_errors
def restore(
    file: Annotated[Path, typer.Argument(help="A backup that `apex-mcp backup` made.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Move the memory that is in the data folder aside.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a data folder out of a backup; what was under way goes on."""
    from apex_mcp.runtime.home import DataFolder
    from apex_mcp.runtime.own_server import own_server
    from apex_mcp.settings import load_settings

    output = Output(as_json=as_json)
    settings = load_settings()
    if settings.database_url is not None:
        raise own_server("restored")
    folder = DataFolder(settings.home)
    if replace or not folder.has_database:
        _end_daemon(output)
    from apex_mcp.runtime.restoring import restore as restore_folder

    waits = output.errors.status("restoring") if output.errors.is_terminal else nullcontext()
    with waits:
        # The database's driver needs this kind of loop, which is not Windows' own.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            done = runner.run(restore_folder(folder, file.expanduser().absolute(), replace=replace))
    data = {
        "home": str(folder.path),
        "made_at": done.made_at.isoformat(),
        "moved_aside": str(done.aside) if done.aside else None,
        "forgotten_again": done.forgotten_again,
        "forgetting_known": done.forgetting_known,
        "left_out_settings": done.left_out_settings,
    }
    output.show(data, lambda: f"{folder.path} is as it was at {done.made_at:%Y-%m-%d %H:%M} UTC")
    if done.aside:
        output.note(f"what was there before is in {done.aside}: remove it when you need it no more")
    if done.forgotten_again:
        output.note(f"{done.forgotten_again} that were forgotten since the backup are forgotten again")
    if not done.forgetting_known:
        output.note(
            "what was forgotten since the backup could not be read from the data that was replaced: forget it again"
        )
    if done.left_out_settings:
        output.note(f"not in the backup, to be set again: {', '.join(done.left_out_settings)}")


def _end_daemon(output: Output) -> None:
    try:
        with daemon(output, start=False, notices=False) as client:
            client.stop()
    except ApexError as error:
        if not is_absent(error):
            raise


@contextmanager
def _bar(output: Output) -> Generator[Callable[[str, int, int], None]]:
    if output.as_json or not output.errors.is_terminal:
        yield lambda what, done, total: None
        return
    # Only a terminal pays for this import.
    from rich.progress import Progress

    with Progress(console=output.errors, transient=True) as bar:
        task = bar.add_task("")
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or 1)
