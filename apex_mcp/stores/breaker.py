"""A circuit breaker: a store that is down is not asked again for a while, so that nobody waits for it."""

import asyncio
import copy
import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from apex_mcp.errors import ApexError, Code, Unavailable
from apex_mcp.stores.health import Health

# Among an error's details: the store did answer, though not with what was wanted.
ANSWERED = "answered"

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """Counts the failures of one store, and refuses calls for a while after several in a row.

    A failure is an `Unavailable`, or a call that its caller gave up on after `patience_seconds`. Any other error of ours is
    an answer, and so is one with `ANSWERED` among its details.

    Args:
        name: the store, as `get_stats` names it.
        code: of the error for a store that does not answer in time.
        health: what the condition is told to.
        failures: so many in a row open it.
        rest_seconds: so long it refuses; then one call is let through, whose end decides.
        patience_seconds: a call that is cancelled later than this counts as a failure; an earlier one as nothing.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        name: str,
        code: Code,
        health: Health,
        *,
        failures: int = 3,
        rest_seconds: float = 5.0,
        patience_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._slow = Unavailable(f"the server for {name} does not answer in time", code=code)
        self._health = health
        self._most_failures = failures
        self._rest_seconds = rest_seconds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False
        self._error: Unavailable | None = None

    @contextmanager
    def guard(self) -> Generator[None]:
        """Around a call of the store, outside of where its driver's errors become `Unavailable`.

        Raises:
            Unavailable: at once, as the last failure said, while the store rests.
        """
        probing = self._enter()
        began = self._clock()
        try:
            yield
        except Unavailable as error:
            if error.details.get(ANSWERED):
                self._succeed()
            else:
                self._fail(error)
            raise
        except asyncio.CancelledError:
            if self._clock() - began >= self._patience_seconds:
                self._fail(self._error or self._slow)
            raise
        except ApexError:
            self._succeed()
            raise
        else:
            self._succeed()
        finally:
            if probing:
                self._probing = False

    def _enter(self) -> bool:
        """Whether this call is the probe."""
        if self._open_until is None:
            return False
        left = self._open_until - self._clock()
        if left > 0 or self._probing:
            assert self._error is not None
            refused = copy.copy(self._error)
            refused.retry_after_seconds = max(1.0, round(left, 1))
            raise refused
        self._probing = True
        return True

    def _fail(self, error: Unavailable) -> None:
        self._error = copy.copy(error).with_traceback(None)
        self._failures += 1
        if self._failures < self._most_failures:
            self._health.note(self._name, "degraded", error.message)
            return
        if self._open_until is None:
            _log.warning(
                "%s: %s; it is left alone for %g s at a time", self._name, error.code, self._rest_seconds
            )
        self._open_until = self._clock() + self._rest_seconds
        self._health.note(self._name, "down", error.message)

    def _succeed(self) -> None:
        if self._open_until is not None:
            _log.info("%s answers again", self._name)
        if self._failures:
            self._health.note(self._name, "ok")
        self._failures, self._open_until, self._error = 0, None, None
