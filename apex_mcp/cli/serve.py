"""`serve`: the server profile's door."""

from typing import Annotated

import typer

from apex_mcp.cli.output import reports_errors
from apex_mcp.settings import load_server_settings


@reports_errors
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of APEX_HTTP_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port, instead of APEX_HTTP_PORT.")
    ] = None,
) -> None:
    """Serve MCP over HTTP from stores on servers; stateless, any number of them. `apex-worker` does the work."""
    given = {"http_host": host, "http_port": port}
    settings = load_server_settings(**{name: value for name, value in given.items() if value is not None})
    from apex_mcp.runtime.server import run_server

    run_server(settings)
