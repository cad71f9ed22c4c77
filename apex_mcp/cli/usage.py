"""A command line that is wrong: said as JSON too, where that was asked for."""

import json
from typing import Any

import typer
from typer.core import TyperGroup

from apex_mcp.errors import InputError

_ASKED = f"{__name__}.asked"


class Group(TyperGroup):
    """The commands; what is wrong with a command line ends with status 2, as ever."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ASKED] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            # The package of the class differs between versions of typer; its parent's name does not.
            if ctx.meta.get(_ASKED) and any(kind.__name__ == "UsageError" for kind in type(error).__mro__):
                typer.echo(json.dumps({"error": _as_ours(error).to_dict()}))
            raise


def _as_ours(error: Any) -> InputError:
    path = error.ctx.command_path if error.ctx is not None else "apex-mcp"
    return InputError(
        error.format_message(),
        unchanged="nothing was done",
        next_step=f"`{path} --help` says how it is written",
    )
