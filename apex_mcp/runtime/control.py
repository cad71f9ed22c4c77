"""The control channel: what the command line asks of the daemon, as lines of JSON.

    {"id", "op", "args"}  →  {"id", "result"} | {"id", "error"}
                             or, for a stream,  {"id", "item"}... {"id", "end"}

An op is a public method of `Memory`, or one of the daemon's own.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import to_jsonable_python

from apex_mcp.caller import Caller
from apex_mcp.errors import ApexError, InputError, Invariant
from apex_mcp.runtime import wire

logger = logging.getLogger(__name__)

OwnOps = dict[str, Callable[..., Awaitable[Any]]]


class ControlSession:
    """Serves one control connection; its ops run side by side.

    Args:
        reader: of the connection.
        writer: of the connection.
        caller: the client's rights.
        memory: gives the `Memory`, once it is there.
        own: the daemon's own ops, by name.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        caller: Caller,
        memory: Callable[[], Awaitable[Any]],
        own: OwnOps,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._caller = caller
        self._memory = memory
        self._own = own

    async def serve(self) -> None:
        """Return when the client is gone; what it was still waiting for is cancelled."""
        running: set[asyncio.Task[None]] = set()
        try:
            while line := await self._reader.readline():
                task = asyncio.create_task(self._run(wire.decode(line)))
                running.add(task)
                task.add_done_callback(running.discard)
        except (OSError, ValueError):
            pass
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._writer.close()

    async def _run(self, request: dict[str, Any]) -> None:
        number = request.get("id")
        try:
            op, args = str(request.get("op")), dict(request.get("args") or {})
            answer = await self._perform(op, args)
            if isinstance(answer, AsyncIterator):
                async for item in answer:  # pyright: ignore[reportUnknownVariableType]
                    await self._send({"id": number, "item": _plain(item)})
                await self._send({"id": number, "end": True})
            else:
                await self._send({"id": number, "result": _plain(answer)})
        except ApexError as error:
            await self._send({"id": number, "error": wire.error_data(error)})
        except Exception as error:  # noqa: BLE001  (one op's bug is no other's)
            logger.error("op %s failed: %s", request.get("op"), type(error).__name__)
            await self._send({"id": number, "error": wire.error_data(_bug(error))})

    async def _perform(self, op: str, args: dict[str, Any]) -> Any:
        if op in self._own:
            return await self._own[op](**_checked(self._own[op], args))
        memory = await self._memory()
        method = getattr(memory, op, None) if op.isidentifier() and not op.startswith("_") else None
        if method is None or not (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)):
            raise InputError(
                f"no such operation: {op[:64]}", next_step="the command line and the daemon differ in version"
            )
        answer = method(self._caller, **_checked(method, args))
        return answer if inspect.isasyncgenfunction(method) else await answer

    async def _send(self, message: dict[str, Any]) -> None:
        # A client that is gone ends the reading side too, and that ends the session.
        with contextlib.suppress(OSError):
            self._writer.write(wire.encode(message))
            await self._writer.drain()


def _checked(method: Callable[..., Any], args: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the method's annotations want them.

    Raises:
        InputError: one is missing, unknown or of the wrong type.
    """
    model = _arguments(getattr(method, "__func__", method))
    try:
        checked = model.model_validate(args)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InputError(f"invalid arguments: {faults}") from None
    return {name: getattr(checked, name) for name in checked.model_fields_set}


@cache
def _arguments(function: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "caller")
    }
    config = ConfigDict(extra="forbid", hide_input_in_errors=True)
    return create_model(f"{function.__name__}_arguments", __config__=config, **fields)


def _plain(answer: Any) -> Any:
    """Views as JSON; errors within a list too, so that one failure stays one."""
    if isinstance(answer, list):
        return [_plain(item) for item in answer]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(answer, ApexError):
        return {"error": wire.error_data(answer)}
    return answer.model_dump(mode="json") if isinstance(answer, BaseModel) else to_jsonable_python(answer)


def _bug(error: Exception) -> Invariant:
    return Invariant(
        f"unexpected error ({type(error).__name__})",
        unchanged="what was accepted before stays accepted",
        next_step="try again; if it stays, report it with what `apex-mcp logs` shows",
    )
