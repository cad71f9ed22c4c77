"""The way to the daemon, for commands."""

import os
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from apex_mcp.cli.output import Output
from apex_mcp.errors import ApexError, Code
from apex_mcp.runtime.wire import home_folder

_SERVERS = ("DATABASE_URL", "QDRANT_URL", "TEMPORAL_ADDRESS")

if TYPE_CHECKING:
    from apex_mcp.runtime.client import DaemonClient


@contextmanager
def daemon(output: Output, *, start: bool = True, notices: bool = True) -> "Generator[DaemonClient]":
    """Connect, and start the daemon if nobody has. Paths are the user's own words, so no root limits them.

    Args:
        output: for what the user should be told.
        start: start it where none runs.
        notices: say what the daemon has to say about this client's settings.

    Raises:
        ApexError: it does not run and may not, or could not, be started.
    """
    from apex_mcp.runtime.client import DaemonClient

    waits = output.errors.status("starting the memory") if output.errors.is_terminal else nullcontext()
    with waits:
        client = DaemonClient.connect(home_folder(), start=start, vouched=True)
    with client:
        for notice in (*client.notices, *_other_memory()) if notices else ():
            output.note(f"note: {notice}")
        yield client


def _other_memory() -> list[str]:
    """That this is not the memory of the servers which the environment names, where somebody may think so.

    A DATABASE_URL alone is some other program's as a rule.
    """
    names = [name for name in _SERVERS if os.environ.get(name)]
    if len(names) < 2 or "DATABASE_URL" not in names:
        return []
    from apex_mcp.settings import load_settings  # takes a moment to load

    try:
        settings = load_settings()
    except ApexError:
        return []  # which the daemon says
    if settings.database_url is not None:
        return []
    return [
        f"this is the embedded memory in {settings.home}: {', '.join(names)} count for `apex-mcp serve` and `apex-worker` "
        "only; to reach the memory of these, set them as APEX_DATABASE_URL and so on"
    ]


def is_absent(error: ApexError) -> bool:
    """Whether it says that no daemon runs; one that runs and does not answer is named by its process."""
    return error.code == Code.DAEMON_UNAVAILABLE and "pid" not in error.details
