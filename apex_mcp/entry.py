"""The `apex-mcp` command. The stdio server starts in milliseconds, so the command line is imported late."""

import sys

_HELP = """\
apex-mcp is a memory server for AI assistants. Without arguments it speaks the Model Context Protocol on
stdin and stdout, so it is started by an MCP client. For Claude Desktop and most others, configure:

  {"mcpServers": {"apex-mcp": {"command": "uvx", "args": ["apex-mcp"], "env": {"APEX_ROOTS": "FOLDERS"}}}}

APEX_ROOTS names the folders that it may read files from. From this terminal:

  apex-mcp ingest PATH...     make files searchable
  apex-mcp search QUESTION    find passages
  apex-mcp doctor             check every part
  apex-mcp --help             everything else
"""


def main() -> None:
    """Run the stdio server, the help or the command line."""
    if len(sys.argv) > 1:
        from apex_mcp.cli import app

        app()
    elif sys.stdin is None or sys.stdin.isatty():
        sys.stderr.write(_HELP)
    else:
        from apex_mcp.runtime.pump import Pump
        from apex_mcp.runtime.wire import home_folder

        try:
            Pump(home_folder()).run()
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
