"""The command `apex-worker`."""

import sys


def main() -> None:
    """Say where the worker runs: a worker of its own needs the server profile."""
    sys.stderr.write(
        "apex-worker: in the embedded profile the worker runs inside the daemon, which `apex-mcp` starts by itself.\n"
        "A worker of its own needs PostgreSQL, Qdrant and Temporal on servers, which this version does not offer yet.\n"
        "`apex-mcp status` shows the daemon and its worker; `apex-mcp doctor` proves that the worker answers.\n"
    )
    raise SystemExit(2)
