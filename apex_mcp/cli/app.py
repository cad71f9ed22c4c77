"""The `apex-mcp` commands."""

import typer

from apex_mcp.cli.forgetting import forget
from apex_mcp.cli.health import doctor, setup
from apex_mcp.cli.ingest import ingest
from apex_mcp.cli.memory import add, cancel, ingestions, retry
from apex_mcp.cli.reading import entities, link, ls, search, show, unlink
from apex_mcp.cli.serve import serve
from apex_mcp.cli.service import enrich, logs, reindex, status, stop, ui, version, workflows
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

for panel, commands in {
    "Memory": (ingest, add, search, entities, unlink, link, show, ls, forget),
    "Ingestions": (ingestions, cancel, retry),
    "Server profile": (serve,),
    "Service": (status, doctor, setup, stop, logs, ui, workflows, reindex, enrich, version),
}.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
