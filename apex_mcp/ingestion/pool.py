"""A pool of child processes for work that may crash, hang or swell: parsing, chunking, embedding.

One call fails alone: its child is killed and replaced, the others go on. A child that dies by itself gets its call a second
try, for the system may have killed it, short of memory, and the call had no part in that. Written here because `pebble`, as
quick as it is (0.3 ms a call), has no memory limit, no priorities and no idle exit, and imports the
daemon's main module again in every child. Threads do the waiting, so any asyncio loop will do (psycopg
needs the selector loop on Windows, which has no subprocesses).
"""

import asyncio
import contextlib
import heapq
import itertools
import pickle
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import psutil

from apex_mcp.child_process import Child
from apex_mcp.errors import ApexError, Code, InputError, Invariant, Unavailable

_WATCH_SECONDS = 0.05
_START_SECONDS = 60.0
_IDLE_SECONDS = 60.0


class ChildPool:
    """Runs functions in child processes.

    Args:
        size: most children at a time; they start when they are needed.
        memory_mb: most resident memory of one child.
        name: what the children do, for the names of threads.
        idle_seconds: a child that had nothing to do for so long ends.
    """

    def __init__(self, *, size: int, memory_mb: int, name: str, idle_seconds: float = _IDLE_SECONDS) -> None:
        self._memory_bytes = memory_mb * 1_000_000
        self._idle_seconds = idle_seconds
        self._order = itertools.count()
        lock = threading.Lock()
        self._queued = threading.Condition(lock)
        self._changed = threading.Condition(lock)
        self._queue: list[_Call] = []
        self._running: list[_Call] = []
        self._idle: list[_Child] = []
        self._closed = False
        # Daemon threads, unlike an executor's: a process that ends without closing the pool waits for no call, and
        # its children end by themselves.
        self._threads = [
            threading.Thread(target=target, name=f"{name}-pool", daemon=True)
            for target in (self._watch, *[self._work] * size)
        ]
        for thread in self._threads:
            thread.start()

    async def run(self, function: str, *args: Any, timeout_seconds: float, priority: int = 0) -> Any:
        """Call `function` ("module:callable") in a child.

        Cancelling ends the call, in the child too.

        Args:
            function: what to call; importable in the child.
            args: its arguments; they and the result must pickle.
            timeout_seconds: longest time for the call itself; waiting for a child doesn't count.
            priority: calls with a lower number go first.

        Raises:
            InputError: the call killed its child twice (`parser_crashed`), took too long (`parser_timeout`) or too
                much memory (`parser_memory`).
            ApexError: whatever the function raised; errors of other kinds come as Invariant.
            Unavailable: no child could be started, or the pool was closed.
        """
        message = pickle.dumps((function, args), protocol=pickle.HIGHEST_PROTOCOL)
        call = _Call(priority, next(self._order), message, timeout_seconds)
        with self._changed:
            if self._closed:
                raise _closed()
            heapq.heappush(self._queue, call)
            self._queued.notify()
        try:
            return await asyncio.wrap_future(call.future)
        finally:
            self._abandon(call)

    async def close(self) -> None:
        """End all children; calls that wait or run fail as unavailable."""
        with self._changed:
            self._closed = True
            waiting, self._queue = self._queue, []
            idle, self._idle = self._idle, []
            for call in self._running:
                call.kill(_closed())
            self._changed.notify_all()
            self._queued.notify_all()
        for call in waiting:
            call.fail(_closed())
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        for child in idle:
            child.end()

    def _abandon(self, call: "_Call") -> None:
        """Forget a call that nobody waits for; nothing when it is over."""
        with self._changed:
            call.abandoned = True
            if call in self._running:
                call.kill(_closed())

    def _work(self) -> None:
        """See calls through, the most urgent first; in as many threads as there may be children."""
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._queued.wait()
                if self._closed:
                    return
                call = heapq.heappop(self._queue)
                if call.abandoned:
                    continue
                call.child = self._take_idle()
                call.deadline = time.monotonic() + (call.timeout_seconds if call.child else _START_SECONDS)
                self._running.append(call)
                self._changed.notify()
            self._see_through(call, call.child)

    def _take_idle(self) -> "_Child | None":
        """The child that was idle for the shortest time; those that died meanwhile are forgotten."""
        while self._idle:
            child = self._idle.pop()
            if child.alive():
                return child
            child.end()
        return None

    def _see_through(self, call: "_Call", child: "_Child | None") -> None:
        try:
            worked, value = self._ask(call, child or self._start_child(call))
        except _ChildGone as gone:
            self._finish(call, None)
            call.fail(call.verdict or gone.error)
        except Exception as error:  # noqa: BLE001  (an answer that can't be read must not leave the caller waiting)
            self._finish(call, None)
            call.fail(Invariant(f"{type(error).__name__} in the answer of a child process"))
        else:
            self._finish(call, call.child)
            call.succeed(value) if worked else call.fail(value)

    def _ask(self, call: "_Call", child: "_Child") -> tuple[bool, Any]:
        """The answer, if need be by a second child: only a call that kills that one too is to blame."""
        try:
            return child.ask(call.message)
        except _ChildGone:
            with self._changed:
                if call.verdict is not None:
                    raise
                call.child = None
                call.deadline = time.monotonic() + _START_SECONDS
            child.end()
        return self._start_child(call).ask(call.message)

    def _start_child(self, call: "_Call") -> "_Child":
        child = _Child()
        with self._changed:
            call.child = child
            if call.verdict:
                child.kill()
        child.greet()
        with self._changed:
            call.deadline = time.monotonic() + call.timeout_seconds
        return child

    def _finish(self, call: "_Call", answered: "_Child | None") -> None:
        """Take the call off the list, and keep its child for the next one where it is fit."""
        with self._changed:
            self._running.remove(call)
            # What a large document left behind in the process goes with the process.
            fit = answered is not None and answered.memory_bytes() <= self._memory_bytes / 2
            kept = answered if fit and call.verdict is None and not self._closed else None
            if kept is not None:
                kept.idle_since = time.monotonic()
                self._idle.append(kept)
            self._changed.notify()
        if kept is None and call.child is not None:
            call.child.end()

    def _watch(self) -> None:
        """End calls over their limits, and children that have been idle for too long."""
        while not self._closed:
            with self._changed:
                now = time.monotonic()
                for call in self._running:
                    if call.verdict is None and (error := self._over_limit(call, now)):
                        call.kill(error)
                # The idle ones stand in the order in which they became idle.
                expired = [one for one in self._idle if now - one.idle_since >= self._idle_seconds]
                del self._idle[: len(expired)]
                if not expired and not self._closed:
                    self._changed.wait(self._watch_pause(now))
            for child in expired:
                child.end()

    def _watch_pause(self, now: float) -> float | None:
        if self._running:
            return _WATCH_SECONDS
        return self._idle[0].idle_since + self._idle_seconds - now if self._idle else None

    def _over_limit(self, call: "_Call", now: float) -> ApexError | None:
        if now >= call.deadline:
            if call.child is None or not call.child.ready:
                return _not_started()
            return InputError(
                f"the document took longer than {call.timeout_seconds:g} seconds",
                code=Code.PARSER_TIMEOUT,
                unchanged="nothing was stored",
                next_step="split the document, or raise APEX_PARSE_TIMEOUT_SECONDS",
            )
        if call.child is not None and call.child.memory_bytes() > self._memory_bytes:
            return InputError(
                f"the document needs more than {self._memory_bytes // 1_000_000} MB of memory",
                code=Code.PARSER_MEMORY,
                unchanged="nothing was stored",
                next_step="split the document, or raise APEX_PARSE_MEMORY_MB",
            )
        return None


@dataclass(order=True)
class _Call:
    """One call. `deadline`, `child`, `verdict` and `abandoned` are guarded by the pool's lock."""

    priority: int
    number: int
    message: bytes = field(compare=False)
    timeout_seconds: float = field(compare=False)
    future: Future[Any] = field(compare=False, default_factory=Future[Any])
    deadline: float = field(compare=False, default=0.0)
    child: "_Child | None" = field(compare=False, default=None)
    verdict: ApexError | None = field(compare=False, default=None)
    abandoned: bool = field(compare=False, default=False)

    def kill(self, verdict: ApexError) -> None:
        self.verdict = verdict
        if self.child is not None:
            self.child.kill()

    # A cancelled future takes no result; that nobody waits for it any more is then all there is to know.
    def succeed(self, value: Any) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class _ChildGone(Exception):
    def __init__(self, error: ApexError) -> None:
        super().__init__()
        self.error = error


class _Child:
    """One child process and the pipes to it."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.ready = False
        self._memory: psutil.Process | None = None
        try:
            self._process = Child("apex_mcp.ingestion.pool_child", humble=True)
        except OSError as error:
            raise _ChildGone(_not_started()) from error

    def greet(self) -> None:
        """Wait until the child runs, and learn its process id.

        Not the id of what was started: in a venv on Windows that is only a launcher.
        """
        try:
            self._memory = psutil.Process(pickle.loads(self._exchange(pickle.dumps(sys.path))))
        except (_ChildGone, psutil.Error) as error:
            raise _ChildGone(_not_started()) from error
        self.ready = True

    def ask(self, message: bytes) -> tuple[bool, Any]:
        """Have the child answer one call: whether it worked, and the value or the error."""
        return pickle.loads(self._exchange(message))

    def _exchange(self, message: bytes) -> bytes:
        if (answer := self._process.exchange(message)) is None:
            raise _ChildGone(self._crashed())
        return answer

    def _crashed(self) -> InputError:
        return InputError(
            "the document crashes the parser",
            code=Code.PARSER_CRASHED,
            unchanged="nothing was stored; other documents are not affected",
            next_step="open the document in its own program and save or export it again, then retry",
            details={"exit_status": self._process.end()},
        )

    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.alive()

    def memory_bytes(self) -> int:
        """Resident memory; 0 when it can't be told."""
        with contextlib.suppress(psutil.Error):
            return self._memory.memory_info().rss if self._memory else 0
        return 0

    def kill(self) -> None:
        """Have the process die, without waiting; from any thread."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and give its resources back. Again is no harm."""
        self._process.end()


def _closed() -> Unavailable:
    return Unavailable(
        "the server is stopping", code=Code.DAEMON_UNAVAILABLE, next_step="try again when it has started"
    )


def _not_started() -> Unavailable:
    return Unavailable(
        "no parser process could be started",
        code=Code.PARSER_UNAVAILABLE,
        next_step="try again; if it stays so, free memory or processes on this machine",
    )
