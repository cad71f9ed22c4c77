"""A way to the daemon that outlasts it, for commands which take long."""

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from apex_mcp.cli.daemon import daemon
from apex_mcp.cli.output import Output
from apex_mcp.errors import ApexError, Code

if TYPE_CHECKING:
    from apex_mcp.runtime.client import DaemonClient

# A daemon that was killed leaves a database that recovers, which takes as long as it has written.
PATIENCE_SECONDS = 300.0
_PAUSE_SECONDS = 1.0
_GONE = frozenset({Code.DAEMON_RESTARTED, Code.DAEMON_UNAVAILABLE, Code.STARTING})


class LastingClient:
    """Calls the daemon; where it goes away meanwhile, it is started again and asked again. A context manager.

    So a call may be made twice: only such are for it as change nothing the second time.

    Args:
        output: for what the user should be told.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._stack = ExitStack()
        self._client: DaemonClient | None = None
        self._under_way = False

    def __enter__(self) -> Self:
        self._client = self._stack.enter_context(daemon(self._output))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def call(self, op: str, **args: Any) -> Any:
        """Run one op and return its result as plain data.

        Raises:
            ApexError: as the op raised it; or no daemon answers for `PATIENCE_SECONDS`.
        """
        began = time.monotonic()
        while True:
            try:
                answer = self._connected().call(op, **args)
            except ApexError as error:
                # One that could not be started in the first place is not waited for.
                self._under_way = self._under_way or error.code is Code.DAEMON_RESTARTED
                gone = self._under_way and error.code in _GONE
                if not gone or time.monotonic() - began > PATIENCE_SECONDS:
                    raise
                if error.code is not Code.STARTING:
                    self._client = None
                    self._stack.close()
                    time.sleep(_PAUSE_SECONDS)
            else:
                self._under_way = True
                return answer

    def _connected(self) -> "DaemonClient":
        if self._client is None:
            self._output.note("the daemon went away; it is started again")
            self._client = self._stack.enter_context(daemon(self._output, notices=False))
        return self._client
