"""`verify` and `maintain`: is everything as the record says, and what is done now and then."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from apex_mcp.cli.daemon import daemon
from apex_mcp.cli.output import AsJson, Output, plain, reports_errors
from apex_mcp.left_overs import replaced_memories
from apex_mcp.runtime.wire import home_folder
from apex_mcp.views import FindingView
from apex_mcp.wording import counted


@reports_errors
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what differs, and compare again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every index with the record; the exit status is 0 only if nothing differs in the end."""
    output = Output(as_json=as_json)
    found: list[FindingView] = []
    with daemon(output) as client:
        for item in client.stream("verify", repair=repair):
            found.append(FindingView.model_validate(item))
            if output.errors.is_terminal and found[-1].compared:
                output.note(f"{found[-1].store}: {found[-1].what}")
    left = sum(one.left for one in found)
    data = {"clean": not left, "findings": [one.model_dump(mode="json") for one in found]}
    output.show(data, lambda: findings(found))
    output.say(verdict(found))
    if left:
        raise typer.Exit(1)


def findings(found: list[FindingView]) -> Table:
    """What was compared, how many, what differs and what was mended, a line for each comparison."""
    table = Table(box=None, pad_edge=False)
    for name in ("store", "what should hold", "compared", "differ", "mended", "ids"):
        table.add_column(name, overflow="fold")
    for one in found:
        style = "red" if one.left else "yellow" if one.differs else ""
        what = ": ".join(part for part in (one.what, one.note) if part)
        numbers = (one.compared, one.differs, max(0, one.differs - one.left)) if one.what else ("", "", "")
        words = plain(what)
        words.stylize(style)
        table.add_row(one.store, words, *map(str, numbers), Text(" ".join(one.examples)))
    return table


def verdict(found: list[FindingView]) -> str:
    """In a sentence, and what to do next."""
    differing = sum(one.differs for one in found)
    left = sum(one.left for one in found)
    if not differing:
        return "clean: everything is as the record says"
    if not left:
        return f"clean now: {counted(differing, 'differed and was mended', 'differed and were mended')}"
    mended = f", {counted(differing - left, 'was mended', 'were mended')}" if differing > left else ""
    differ = counted(differing, "differs", "differ")
    if any(one.note for one in found if one.left):
        return f"{differ}{mended}: the notes above say what helps"
    return f"{differ}{mended}: `apex-mcp verify --repair` mends what can be"


_DONE = {
    "stuck": "ingestions that were stuck and go on",
    "staged": "ingestions whose staged content went",
    "pruned": "replaced versions that were pruned",
    "orphans": "left-overs removed from indexes",
    "expired": "cached answers whose time was over",
    "dropped": "notes of old removals dropped",
    "erased": "requests to forget that files are rid of now",
}

_REWRITTEN = "the memory's files hold nothing any more that was removed from it"
_NOT_REWRITTEN = (
    "the database's files were not written anew: on a PostgreSQL of yours that is its operator's to do; "
    "else maintenance was under way for an hour already, so run this again"
)


@reports_errors
def maintain(
    erase: Annotated[
        bool, typer.Option("--erase", help="Rid files of what was forgotten now, not only when it is due.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Do now what is done once an hour: remove what is past its time, mend what a crash left behind."""
    output = Output(as_json=as_json)
    with daemon(output) as client:
        done: dict[str, int] = client.call("maintain", erase=erase)
    told = [f"{what}: {done[name]}" for name, what in _DONE.items() if done.get(name)]
    if erase:
        told.append(_REWRITTEN if done.get("rewritten") else _NOT_REWRITTEN)
        told += [
            f"{name} holds what a restore replaced, as it was: delete it when you are sure that you do not need it"
            for name, _ in replaced_memories(Path(home_folder()))
        ]
    output.show(done, lambda: "\n".join(told) or "nothing was to be done")
