"""The `apex-mcp` commands."""

from typing import Annotated

import typer

from apex_mcp.cli.archives import backup, export, import_, restore
from apex_mcp.cli.forgetting import forget
from apex_mcp.cli.health import doctor, setup
from apex_mcp.cli.ingest import ingest
from apex_mcp.cli.memory import add, cancel, ingestions, retry
from apex_mcp.cli.reading import entities, link, ls, search, show, unlink
from apex_mcp.cli.serve import serve
from apex_mcp.cli.service import enrich, logs, reindex, status, stop, ui, version, workflows
from apex_mcp.cli.upkeep import maintain, verify
from apex_mcp.cli.usage import Group

app = typer.Typer(
    name="apex-mcp",
    cls=Group,
    help="A memory for AI assistants. Without a command it is an MCP server on stdin and stdout.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    """What stands before a command."""


for panel, commands in {
    "Memory": (ingest, add, search, entities, unlink, link, show, ls, forget),
    "Taking along": (export, import_, backup, restore),
    "Ingestions": (ingestions, cancel, retry),
    "Server profile": (serve,),
    "Service": (status, doctor, setup, stop, logs, ui, workflows, reindex, enrich, verify, maintain, version),
}.items():
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=panel)(command)
