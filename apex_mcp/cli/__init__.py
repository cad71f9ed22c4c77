"""The command line: the same operations as the tools, for people and scripts."""

from apex_mcp.cli.app import app

__all__ = ["app"]
