"""Commands about the service itself: is it well, what does it do, stop it, prepare it."""

import asyncio
import time
from collections import deque
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from apex_mcp import __version__
from apex_mcp.cli import rendering
from apex_mcp.cli.daemon import daemon, is_absent
from apex_mcp.cli.options import Limit, Namespace
from apex_mcp.cli.output import AsJson, Output, reports_errors
from apex_mcp.errors import ApexError, Code, NotFound
from apex_mcp.runtime.wire import error_from, home_folder
from apex_mcp.views import StatsView
from apex_mcp.wording import counted

_FOLLOW_SECONDS = 0.3
_WAITING = "passages that wait for vectors"
_GOES_ON = "that goes on in the background once the embedder can be asked: `apex-mcp status` shows how far"


class Log(StrEnum):
    """Who writes a log."""

    DAEMON = "daemon"
    POSTGRES = "postgres"
    TEMPORAL = "temporal"


@reports_errors
def status(namespace: Namespace = None, as_json: AsJson = False) -> None:
    """Say what runs, what is stored and whether all is well; starts nothing."""
    output = Output(as_json=as_json)
    try:
        with daemon(output, start=False) as client:
            answer: dict[str, Any] = client.call("status")
            stats = _stats(client.call, namespace)
    except ApexError as error:
        if not is_absent(error):
            raise
        output.show({"running": False}, lambda: "not running; the next command or client starts it")
        return
    data = {"running": True, **answer, "stats": stats.model_dump(mode="json") if stats else None}
    if output.as_json:
        output.show(data, lambda: "")
        return
    notices: list[str] = answer.pop("notices", [])
    failure: dict[str, Any] | None = answer.pop("failure", None)
    output.render(rendering.status(answer))
    for notice in notices:
        output.say(f"note: {notice}")
    if failure:
        output.say(f"failed: {error_from(failure)}")
    if stats:
        output.render(rendering.stats(stats))


def _stats(call: Any, namespace: str | None) -> StatsView | None:
    try:
        return StatsView.model_validate(call("get_stats", namespace=namespace))
    except ApexError as error:
        if error.retryable or error.code == Code.SETTINGS_INVALID:
            # Still starting, or a store is down: `services` says which. Of settings a note has told.
            return None
        raise


@reports_errors
def stop(as_json: AsJson = False) -> None:
    """Stop the daemon and all that it runs; unfinished ingestions go on when it starts again."""
    output = Output(as_json=as_json)
    stopped = True
    try:
        # The daemon's advice about settings that differ is this very command.
        with daemon(output, start=False, notices=False) as client:
            client.stop()
    except ApexError as error:
        if not is_absent(error):
            raise
        stopped = False
    # One that was killed, also amid its stopping, leaves what it ran.
    ended = _end_orphans()
    words = "stopped" if stopped else "not running"
    if ended:
        words += f"; ended what a daemon that was killed had left running: {' and '.join(ended)}"
    elif ended is None and not stopped:
        words += ", but some process has the data folder: a daemon that starts or ends, or a restore"
    output.show({"stopped": stopped, "orphans_ended": ended}, lambda: words)


def _end_orphans() -> list[str] | None:
    from apex_mcp.runtime.home import DataFolder
    from apex_mcp.runtime.orphans import end_orphans

    return asyncio.run(end_orphans(DataFolder(Path(home_folder()))))


@reports_errors
def ui(as_json: AsJson = False) -> None:
    """Start Temporal's web interface on this machine, and say where it is."""
    output = Output(as_json=as_json)
    with daemon(output) as client:
        answer = client.call("ui")
    output.show({"url": answer}, lambda: str(answer))


@reports_errors
def workflows(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the workflows that Temporal ran last."""
    output = Output(as_json=as_json)
    with daemon(output) as client:
        answer: list[dict[str, Any]] = client.call("workflows", limit=limit)
    output.show(answer, lambda: rendering.rows(answer))


class Store(StrEnum):
    """What is made anew from the record."""

    ALL = "all"
    VECTORS = "vectors"
    GRAPH = "graph"


@reports_errors
def reindex(
    store: Annotated[Store, typer.Argument(help="The index to make anew.")] = Store.ALL,
    wait: Annotated[bool, typer.Option(help="Wait until all vectors are there as well.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make the indexes anew from the record, the vectors for the embedder that is set; carries on where it was interrupted."""
    output = Output(as_json=as_json)
    numbers: dict[str, int] = {}
    try:
        with daemon(output) as client:
            for step in client.stream("reindex", store=store):
                if output.errors.is_terminal and numbers.get(step["what"]) != step["number"]:
                    output.note(f"{step['what']}: {step['number']}")
                numbers[step["what"]] = step["number"]
                if step["what"] == _WAITING and not wait:
                    break
    except KeyboardInterrupt:
        if store is Store.GRAPH:
            output.note("interrupted: the graph goes on being written in the background")
        elif _WAITING in numbers:
            output.note(f"the index is made anew; {_GOES_ON}")
        else:
            output.note(
                "interrupted: the index that was in use stays; run `apex-mcp reindex` again to carry on"
            )
        raise typer.Exit(130) from None
    if store is Store.GRAPH:
        output.show({"graph": "written anew"}, lambda: "the graph is written anew")
        return
    waiting = numbers.get(_WAITING)
    passages = numbers.get("passages", 0)
    done = f"the index is made anew: {counted(passages, 'passage')}"
    owing = counted(
        waiting or 0, "of them still waits for its vectors", "of them still wait for their vectors"
    )
    vectors = {None: "no embedder is set, so search is by words", 0: "all with their vectors"}.get(
        waiting, f"{owing}; {_GOES_ON}"
    )
    output.show({"passages": passages, "waiting_for_vectors": waiting}, lambda: f"{done}, {vectors}")


@reports_errors
def enrich(
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Only this memory; else all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have the model that is set read what it has not: stored without one, or failed. It goes on if this is interrupted."""
    output = Output(as_json=as_json)
    last: dict[str, Any] = {}
    with daemon(output) as client:
        for last in client.stream("enrich", namespace=namespace):
            if output.errors.is_terminal:
                output.note(", ".join(f"{number} {name}" for name, number in last.items()))
    output.show(last, lambda: ", ".join(f"{number} {name}" for name, number in last.items()))


@reports_errors
def logs(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    of: Annotated[Log, typer.Option(help="Whose log.")] = Log.DAEMON,
    as_json: AsJson = False,
) -> None:
    """Show the last lines of the log."""
    output = Output(as_json=as_json)
    path = Path(home_folder()) / "logs" / f"{of}.log"
    if not path.is_file():
        raise NotFound(
            "there is no such log yet",
            next_step="the first command or client that needs the daemon starts it",
        )
    with path.open(encoding="utf-8", errors="replace") as file:
        last = [line.rstrip("\n") for line in deque(file, maxlen=lines)]
        if as_json:
            output.show({"path": str(path), "lines": last}, lambda: "")
            return
        for line in last:
            output.say(line)
        while follow:
            if line := file.readline():
                output.say(line.rstrip("\n"))
            else:
                time.sleep(_FOLLOW_SECONDS)


@reports_errors
def version(as_json: AsJson = False) -> None:
    """Say which version this is."""
    Output(as_json=as_json).show({"version": __version__}, lambda: f"apex-mcp {__version__}")
