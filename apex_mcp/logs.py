"""The log of a process: one line an event, codes and ids only, never what a user stored or asked."""

import logging
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

_MAX_BYTES = 5_000_000
_OURS = ("apex_mcp", "apex_worker")


class _Line(logging.Formatter):
    """Plain lines, in UTC. Of an exception only its type and place; of other packages' messages only the words.

    What a driver or a protocol library fills into its messages is often what the user sent.
    """

    converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage() if record.name.split(".")[0] in _OURS else str(record.msg)
        line = (
            f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%SZ')} {record.levelname} {record.name} {text[:500]}"
        )
        if record.exc_info and record.exc_info[0] is not None:
            line += f" [{record.exc_info[0].__name__}{place_of(record.exc_info[2])}]"
        return line.replace("\n", " ")


def place_of(traceback: TracebackType | None) -> str:
    """Where in our code an exception came from, or passed last; empty where it did neither. For the log: no content is in it."""
    places = [
        f" at {name}:{line}"
        for frame, line in walk_tb(traceback)
        if (name := str(frame.f_globals.get("__name__", ""))).split(".")[0] in _OURS
    ]
    return places[-1] if places else ""


def log_to(path: Path) -> None:
    """Send the process's log to `path`; other packages speak from WARNING on."""
    _use(RotatingFileHandler(path, maxBytes=_MAX_BYTES, backupCount=1, encoding="utf-8", delay=True))


def log_to_stderr(level: str) -> None:
    """Send the process's log to standard error, for whoever runs it as a service."""
    _use(logging.StreamHandler())
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


def _use(handler: logging.Handler) -> None:
    handler.setFormatter(_Line())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in _OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    # Each connection that a restart of PostgreSQL closed is worth a warning to it; it opens others by itself.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
