"""Options that several commands share."""

import json
from typing import Annotated, Any

import typer

from apex_mcp.times import moment


def _named(namespace: str | None) -> str | None:
    # A shell's empty variable would mean the default memory.
    if namespace is not None and not namespace.strip():
        raise typer.BadParameter("it is empty; leave it out for the default memory")
    return namespace


Namespace = Annotated[
    str | None, typer.Option(callback=_named, help="Which memory; the default one if not given.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many.")]
Cursor = Annotated[str | None, typer.Option(help="Where the page before ended.")]
Meta = Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Repeatable.")]


def metadata(pairs: list[str] | None) -> dict[str, Any] | None:
    """Read `key=value` options; a value that is JSON is that, anything else is text.

    Raises:
        typer.BadParameter: a pair has no `=`.
    """
    if not pairs:
        return None
    read: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--meta")
        try:
            read[key] = json.loads(value)
        except ValueError:
            read[key] = value
    return read


def iso(name: str, value: str | None, *, end_of_day: bool = False) -> str | None:
    """A time option as the daemon takes it; a date alone as for the tools.

    Raises:
        InputError: it is no ISO 8601 time.
    """
    read = moment(name, value or "", end_of_day=end_of_day)
    return read.isoformat() if read else None
