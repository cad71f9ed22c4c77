"""Connections whose server must answer in time: one that hangs would hold whoever asks it for ever."""

import asyncio
import socket
from contextlib import suppress
from typing import Any, TypeVar

from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen
from psycopg.rows import Row

T = TypeVar("T")


class NoAnswer(OperationalError):
    """The server took longer than it may."""


class BoundedConnection(AsyncConnection[Row]):
    """Hangs up on a server that is silent for too long, in whatever the driver waits for: a query, a commit, a rollback.

    Cancelling a query is no way out: it asks the same server, on another connection. A connection that was hung up on is
    broken, so its pool throws it away.

    Attributes:
        answer_seconds: how long one answer may take; None for as long as it likes.
    """

    answer_seconds: float | None = None

    async def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
        """Wait for the server, as the driver does for each thing that it asks.

        Raises:
            NoAnswer: it was silent for too long.
        """
        seconds = self.answer_seconds
        if seconds is None:
            return await super().wait(gen, *args, **options)
        hung_up = False

        def hang_up() -> None:
            nonlocal hung_up
            hung_up = True
            self._shut_down()

        timer = asyncio.get_running_loop().call_later(seconds, hang_up)
        try:
            return await super().wait(gen, *args, **options)
        except OperationalError as error:
            if hung_up:
                raise NoAnswer(f"no answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()

    def _shut_down(self) -> None:
        """End the conversation. The driver closes the socket: else its number might be another one's by then."""
        with suppress(OSError, OperationalError):
            line = socket.socket(fileno=self.pgconn.socket)
            try:
                line.shutdown(socket.SHUT_RDWR)
            finally:
                line.detach()
