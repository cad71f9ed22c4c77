"""What pump, command line and daemon say to each other. The pump starts in milliseconds: few imports here.

    client                                   daemon
    {"apex-mcp": 1, "challenge": c}     →
                                        ←    {"proof": keyed hash of c}     now the client trusts the port
    {"mode", "token", "version", ...}   →                                   the hello
                                        ←    {"ok", "version", "notices"} or {"ok": false, "error"}
    lines of MCP, or of the control channel, in both directions
                                        ←    {"apex-mcp": "stopped" | "moved"}   before a deliberate end

Every line is one JSON object. The first three lines and the mode `drain` never change, whatever the protocol
number: by them a newer version can ask an older daemon to make room.
"""

import hashlib
import json
import os
import re
import sys
from typing import Any

from apex_mcp.errors import ApexError, Rejected, from_dict

PROTOCOL = 1
"""Raised when the hello, its reply or the lines after it change in a way that an older side can't follow."""

MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 200
"""Of objects and lists in each other: far from where parsers and serialisers give up, each at another level."""

HELLO_SECONDS = 10.0

MODE_MCP = "mcp"
MODE_CONTROL = "control"
MODE_DRAIN = "drain"

FAREWELL = b'{"apex-mcp":'
FAREWELL_STOPPED = "stopped"
FAREWELL_MOVED = "moved"

_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]}]')

INFO_FILE = "daemon.json"
LOCK_FILE = "daemon.lock"

REQUEST_ID_META = "apex-mcp/request-id"
"""Key in a call's `_meta` of the pump's own id of the request: the same when it sends the call again."""

READ_ONLY_TOOLS = frozenset({
    "get_document",
    "get_entities",
    "get_ingestion",
    "get_stats",
    "list_memories",
    "search",
})
"""Tools that may simply be called again after the daemon was replaced."""


def encode(message: dict[str, Any]) -> bytes:
    """One message as one line. ASCII, so that a lone surrogate passes as the escape it came as."""
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message in a line; empty when it is none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def is_too_deep(line: bytes) -> bool:
    """Whether a line of JSON has more than `MAX_DEPTH` levels."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(line):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def error_data(error: ApexError) -> dict[str, Any]:
    """An error as it crosses the wire."""
    return {**error.to_dict(), "kind": type(error).__name__}


def error_from(data: dict[str, Any]) -> ApexError:
    """The error that the other side raised."""
    try:
        return from_dict(data, str(data.get("kind")))
    except (KeyError, ValueError):
        # A code that a later version brought.
        return Rejected(str(data.get("message", "refused")), next_step=str(data.get("next_step", "")))


def proof(token: str, challenge: str) -> str:
    """What only a holder of the token can answer: a port left by a killed daemon may be anybody's now."""
    return hashlib.blake2b(challenge.encode(), key=token.encode()[:64], digest_size=32).hexdigest()


def home_folder() -> str:
    """The data folder, by the same rule as the settings, without their imports."""
    given = os.environ.get("APEX_HOME")
    if given:
        return os.path.abspath(os.path.expanduser(given))
    if sys.platform == "linux":
        # What platformdirs answers here, without the 20 ms that importing it takes.
        data = os.environ.get("XDG_DATA_HOME", "")
        return os.path.join(data if os.path.isabs(data) else os.path.expanduser("~/.local/share"), "apex-mcp")
    import platformdirs

    return platformdirs.user_data_dir("apex-mcp")


def read_info(home: str) -> dict[str, Any] | None:
    """Where the daemon listens, or None where no file says so."""
    try:
        with open(os.path.join(home, INFO_FILE), "rb") as file:
            info = decode(file.read())
    except OSError:
        return None
    return info if {"port", "token", "version", "protocol"} <= info.keys() else None


def version_key(version: str) -> tuple[int, ...]:
    """Orders versions by their numbers; what follows them (`rc1`, `.dev0`) doesn't count."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
