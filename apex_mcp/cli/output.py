"""Where the command line's words go: answers to stdout, errors to stderr, JSON alone with `--json`."""

import functools
import json
import re
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.text import Text

from apex_mcp.errors import ApexError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else, to stdout.")]

_PIPE_WIDTH = 1000

_IN_A_TERMINAL = {
    "the client's first root": "the current folder",
    "get_ingestion without an id": "get_ingestion",
    "get_document without `version` gives": "get_document gives",
}
_COMMANDS = {
    "add_memory": "add",
    "cancel_ingestion": "cancel",
    "get_document": "show",
    "get_entities": "entities",
    "get_ingestion": "ingestions",
    "get_stats": "status",
    "ingest_document": "ingest",
    "list_memories": "ls",
    "retry_ingestion": "retry",
}
_TOOL = re.compile(rf"\b(?:{'|'.join(_COMMANDS)})\b")

# Stored texts come from anywhere; none of them may move the cursor or change the terminal's title.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Output:
    """One command's output.

    Args:
        as_json: the user asked for JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            # A program reads it: no line is folded.
            self.console.width = _PIPE_WIDTH
        self.errors = Console(stderr=True, highlight=False)

    def show(
        self, data: BaseModel | dict[str, Any] | list[Any], renderable: Callable[[], RenderableType]
    ) -> None:
        """Write an answer: as JSON, or as people read it."""
        if self.as_json:
            plain_data = data.model_dump(mode="json") if isinstance(data, BaseModel) else data
            # ASCII, because a pipe's encoding is anybody's guess on Windows.
            typer.echo(json.dumps(plain_data))
        else:
            self.render(renderable())

    def render(self, renderable: RenderableType) -> None:
        """Write something for people; a program that reads it gets no line padded to a table's width."""
        if self.console.is_terminal:
            self.console.print(renderable, soft_wrap=True)
            return
        with self.console.capture() as captured:
            self.console.print(renderable, soft_wrap=True)
        for line in captured.get().splitlines():
            typer.echo(line.rstrip())

    def say(self, words: str) -> None:
        """A line for people; it never gets into JSON."""
        if not self.as_json:
            self.console.print(plain(words), soft_wrap=True)

    def note(self, words: str) -> None:
        """A line beside the answer, on stderr."""
        self.errors.print(plain(words), soft_wrap=True)

    def fail(self, error: ApexError) -> None:
        """Report an error: on stderr for people, and as JSON if that was asked for."""
        if self.as_json:
            typer.echo(json.dumps({"error": error.to_dict()}))
        self.errors.print(Text(f"error: {for_terminal(str(error))}", style="red"), soft_wrap=True)


def for_terminal(words: str) -> str:
    """An error's words, which speak to assistants of tools, as they mean something in a terminal."""
    for said, meant in _IN_A_TERMINAL.items():
        words = words.replace(said, meant)
    return _TOOL.sub(lambda found: f"`apex-mcp {_COMMANDS[found[0]]}`", words)


def plain(words: str) -> Text:
    """Text as it is, without markup and without control characters."""
    return Text(_CONTROL.sub("", words))


def reports_errors(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make a command end with a readable error and status 1 instead of a traceback."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        output = Output(as_json=kwargs.get("as_json") is True)
        try:
            return command(*args, **kwargs)
        except ApexError as error:
            output.fail(error)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            output.note("stopped waiting; what was accepted goes on, see `apex-mcp ingestions`")
            raise typer.Exit(130) from None

    return run
