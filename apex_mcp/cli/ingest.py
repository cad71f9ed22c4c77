"""`ingest`: files and folders into the memory, with a progress bar, a summary and an exit status."""

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from apex_mcp.cli import rendering
from apex_mcp.cli.folders import Found, find_files
from apex_mcp.cli.lasting import LastingClient
from apex_mcp.cli.options import Meta, Namespace, metadata
from apex_mcp.cli.output import AsJson, Output, for_terminal, reports_errors
from apex_mcp.errors import ApexError, Code, InputError
from apex_mcp.models import IngestionState
from apex_mcp.runtime.wire import error_from
from apex_mcp.views import IngestionView

_PAGE = 200
_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 1.0
_GOOD = frozenset({IngestionState.READY, IngestionState.UNCHANGED, IngestionState.SUPERSEDED})


class Run:
    """One `ingest`: what came of each path.

    Attributes:
        views: the ingestions by path, as last seen.
        refused: paths that were not accepted, and why.
        lost: why nothing more is known of those that are unfinished; None where all is.
    """

    def __init__(self) -> None:
        self.views: dict[Path, IngestionView] = {}
        self.refused: dict[Path, ApexError] = {}
        self.lost: ApexError | None = None

    @property
    def unfinished(self) -> list[Path]:
        return [path for path, view in self.views.items() if not view.finished]

    @property
    def failed(self) -> bool:
        return bool(self.refused or self.lost) or any(
            view.finished and view.state not in _GOOD for view in self.views.values()
        )

    def summary(self) -> dict[str, int]:
        """How many ended how."""
        states = Counter(view.state for view in self.views.values())
        failed = sum(count for state, count in states.items() if state.finished and state not in _GOOD)
        return {
            "searchable": states[IngestionState.READY] + states[IngestionState.SUPERSEDED],
            "unchanged": states[IngestionState.UNCHANGED],
            "failed": failed + len(self.refused),
            "unfinished": len(self.unfinished),
        }

    def data(self, found: Found) -> dict[str, Any]:
        """Everything, for `--json`."""
        return {
            **self.summary(),
            "passed_over": {
                "unsupported": dict(found.unsupported),
                "hidden": found.hidden,
                "links": found.elsewhere,
            },
            "ingestions": [
                {"path": str(path), **view.model_dump(mode="json")} for path, view in self.views.items()
            ],
            "refused": [
                {"path": str(path), "error": error.to_dict()} for path, error in self.refused.items()
            ],
            **({"error": self.lost.to_dict()} if self.lost else {}),
        }


class Progress(Protocol):
    """Told about each path that is over, once, and what was left out of it."""

    def over(self, path: Path, line: str, *, good: bool) -> None: ...

    def warn(self, line: str) -> None: ...


@reports_errors
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, and folders with all that is below them.")],
    namespace: Namespace = None,
    meta: Meta = None,
    wait: Annotated[bool, typer.Option(help="Wait until all are searchable.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make files and folders searchable."""
    output = Output(as_json=as_json)
    given = metadata(meta)
    # A shell's empty variable: as a path it would be the current folder with all that is in it.
    if not all(path.strip() for path in paths):
        raise InputError(
            "one of the paths is empty",
            unchanged="nothing was ingested",
            next_step="name files and folders; for the current one give .",
        )
    found = find_files(Path(path) for path in paths)
    if not found.files:
        raise InputError(
            "there is nothing to ingest here",
            code=Code.PATH_NOT_FOUND,
            next_step=found.passed_over() or "name files, or folders that hold some",
        )
    run = Run()
    with LastingClient(output) as client, _progress(output, len(found.files)) as progress:
        try:
            for start in range(0, len(found.files), _PAGE):
                page = found.files[start : start + _PAGE]
                _accept(client, run, progress, page, namespace, given)
                _look(client, run, progress)
            if wait:
                _follow(client, run, progress)
        except ApexError as error:
            if not (run.views or run.refused):
                raise
            _give_up(run, progress, found.files, error)
    if run.lost:
        output.note(f"error: {for_terminal(str(run.lost))}")
    counts = run.summary()
    if output.as_json:
        output.show(run.data(found), lambda: "")
    else:
        if passed_over := found.passed_over():
            output.say(passed_over)
        output.say(
            ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "searchable")
        )
    if run.failed:
        raise typer.Exit(1)


def _accept(
    client: LastingClient,
    run: Run,
    progress: Progress,
    page: Sequence[Path],
    namespace: str | None,
    given: dict[str, Any] | None,
) -> None:
    answers = client.call(
        "ingest_paths", paths=[str(path) for path in page], namespace=namespace, metadata=given
    )
    for path, answer in zip(page, answers, strict=True):
        if "error" in answer:
            _refuse(run, progress, path, error_from(answer["error"]))
        else:
            _note(run, progress, path, IngestionView.model_validate(answer))


def _give_up(run: Run, progress: Progress, paths: Sequence[Path], error: ApexError) -> None:
    """Of those that were not accepted nobody knows more than why; those that were go on."""
    run.lost = error
    for path in paths:
        if path not in run.views and path not in run.refused:
            _refuse(run, progress, path, error)


def _refuse(run: Run, progress: Progress, path: Path, error: ApexError) -> None:
    run.refused[path] = error
    progress.over(path, f"failed  {path}: {error}", good=False)


def _note(run: Run, progress: Progress, path: Path, view: IngestionView) -> None:
    run.views[path] = view
    if view.finished:
        good = view.state in _GOOD
        progress.over(path, f"{view.state}  {path}{rendering.reason(view)}", good=good and not view.warnings)
        for warning in view.warnings:
            progress.warn(f"  {warning}")


def _look(client: LastingClient, run: Run, progress: Progress) -> None:
    """See how the unfinished ones are."""
    unfinished = run.unfinished
    for start in range(0, len(unfinished), _PAGE):
        page = unfinished[start : start + _PAGE]
        ids = [str(run.views[path].ingestion_id) for path in page]
        answers = client.call("get_ingestions", ingestion_ids=ids)
        by_id = {view.ingestion_id: view for view in map(IngestionView.model_validate, answers)}
        for path in page:
            view = by_id.get(run.views[path].ingestion_id)
            if view is not None:
                _note(run, progress, path, view)


def _follow(client: LastingClient, run: Run, progress: Progress) -> None:
    pause_seconds = _FIRST_POLL_SECONDS
    while run.unfinished:
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, _LONGEST_POLL_SECONDS)
        _look(client, run, progress)


class _Lines:
    """For a pipe: a line for each path."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def over(self, path: Path, line: str, *, good: bool) -> None:
        self._output.say(line)

    def warn(self, line: str) -> None:
        self._output.say(line)


class _Bar:
    """For a terminal: a bar, and a line for each failure, or file that is not read whole."""

    def __init__(self, output: Output, advance: "_Advance") -> None:
        self._output = output
        self._advance = advance

    def over(self, path: Path, line: str, *, good: bool) -> None:
        if not good:
            self._output.say(line)
        self._advance(path.name)

    def warn(self, line: str) -> None:
        self._output.say(line)


class _Advance(Protocol):
    def __call__(self, name: str, /) -> None: ...


@contextmanager
def _progress(output: Output, total: int) -> Generator[Progress]:
    if output.as_json or not output.console.is_terminal:
        yield _Lines(output)
        return
    # Only a terminal pays for these imports.
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Bar(*columns, console=output.console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield _Bar(output, lambda name: bar.update(task, advance=1, description=escape(name)))
