"""The way to the daemon, for commands."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from apex_mcp.cli.output import Output
from apex_mcp.errors import ApexError, Code
from apex_mcp.runtime.wire import home_folder

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
        for notice in client.notices if notices else ():
            output.note(f"note: {notice}")
        yield client


def is_absent(error: ApexError) -> bool:
    """Whether it says that no daemon runs; one that runs and does not answer is named by its process."""
    return error.code == Code.DAEMON_UNAVAILABLE and "pid" not in error.details
