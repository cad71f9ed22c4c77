"""How failures reach a model: what happened, what was left unchanged, what to do next; no content."""

import logging
import uuid
from collections.abc import Iterable, Sequence

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, UnexpectedToolError
from mcp_types import CallToolResult, TextContent
from pydantic import ValidationError

from apex_mcp.errors import ApexError, InputError, Invariant, NotFound
from apex_mcp.logs import place_of

logger = logging.getLogger(__name__)

_MAX_NAMED = 5
_HINTS = {
    "uuid_parsing": "is not an id; ids are UUIDs that search, list_memories and get_ingestion return",
    "uuid_type": "is not an id; ids are UUIDs that search, list_memories and get_ingestion return",
    "missing": "is missing",
}


def tool_failure(error: BaseException, notices: Sequence[str] = ()) -> CallToolResult:
    """The result of a tool call that failed: a text to act on, and the error as data in `_meta`.

    The connection's notices, where there are any, may be the reason: a root that was refused, for instance.
    """
    failure = translate(error)
    # Names of tools and arguments are the client's own words: what is not Unicode could not be sent back.
    text = str(failure).encode(errors="replace").decode()
    if failure.retry_after_seconds is not None:
        text = f"{text}; try again in {failure.retry_after_seconds:g} s"
    return CallToolResult(
        content=[TextContent(type="text", text="\n".join([text, *notices]))],
        is_error=True,
        _meta={
            "apex-mcp/error": {
                "code": str(failure.code),
                "retryable": failure.retryable,
                "retry_after_seconds": failure.retry_after_seconds,
                "details": failure.details,
            }
        },
    )


def resource_failure(error: BaseException) -> ResourceError:
    """The same for a resource."""
    failure = translate(error)
    return (ResourceNotFoundError if isinstance(failure, NotFound) else ResourceError)(str(failure))


def translate(error: BaseException) -> ApexError:
    """The ApexError behind what the SDK raised; anything unforeseen becomes an id in the log."""
    cause = error.__cause__ or error
    if isinstance(cause, ApexError):
        return cause
    if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
        return invalid_arguments(cause)
    error_id = uuid.uuid4().hex[:12]
    logger.error("unexpected error %s: %s%s", error_id, type(cause).__name__, place_of(cause.__traceback__))
    return Invariant(
        f"unexpected error, id {error_id}",
        unchanged="what was accepted before stays accepted",
        next_step="the same call may work again; if not, report it with this id, which `apex-mcp logs` shows",
        details={"error_id": error_id},
    )


def invalid_arguments(error: ValidationError) -> InputError:
    """Name each wrong argument and what it should be, without its value."""
    problems: list[str] = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        name = ".".join(str(part) for part in item["loc"])
        reason = _HINTS.get(item["type"]) or item["msg"].removeprefix("Value error, ").replace(
            "Input should", "should"
        )
        problems.append(f"{name} {reason}")
    # One argument of a union type is reported once an alternative.
    problems = list(dict.fromkeys(problems))
    shown = problems[:_MAX_NAMED]
    if len(problems) > _MAX_NAMED:
        shown.append(f"and {len(problems) - _MAX_NAMED} more")
    return InputError(", ".join(shown), next_step="correct these arguments and call again")


def unknown_arguments(tool: str, unknown: Iterable[str], known: Iterable[str]) -> InputError:
    """An argument that would be ignored silently is refused: a filter that is left out changes the answer."""
    names = ", ".join(sorted(name[:40] for name in unknown)[:_MAX_NAMED])
    return InputError(f"{tool} has no argument {names}", next_step=f"it takes {', '.join(known)}")


def broken_text(names: Iterable[str]) -> InputError:
    return InputError(
        f"{', '.join(names)} holds a lone surrogate",
        next_step="send valid Unicode: replace that character",
    )


def unknown_tool(name: str, tools: Iterable[str]) -> InputError:
    return InputError(f"there is no tool {name[:60]}", next_step=f"the tools are {', '.join(tools)}")
