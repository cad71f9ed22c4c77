"""How the MCP face reaches the stores, and whose connection a request came by."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from apex_mcp.caller import Caller

if TYPE_CHECKING:
    # Memory brings drivers; the server answers `initialize` and `tools/list` before they are loaded.
    from apex_mcp.memory import Memory


class Gateway(Protocol):
    """Whoever owns the stores."""

    async def memory(self) -> "Memory":
        """Wait until the stores are up.

        Raises:
            Unavailable: they are still starting (`starting`), or did not come up.
        """
        ...


@dataclass(slots=True)
class Connection:
    """One client's connection.

    Attributes:
        caller: its rights.
        notices: what the user should be told once, e.g. that this client's settings differ from the daemon's.
        client_roots: the folders that the client named; None until asked, and when it says that they changed.
    """

    caller: Caller
    notices: list[str] = field(default_factory=list[str])
    client_roots: tuple[Path, ...] | None = None


current_connection: ContextVar[Connection] = ContextVar("current_connection")
"""Set for each connection's task before it is served; requests run in tasks that inherit it."""


def take_notices() -> list[str]:
    """What this connection's user was not told yet, a line each; once only."""
    notices = current_connection.get().notices
    lines = [f"note: {notice}" for notice in notices]
    notices.clear()
    return lines
