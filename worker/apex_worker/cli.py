"""The command `apex-worker`: a worker of the server profile, any number of them on any machines."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from apex_mcp import __version__
from apex_mcp.errors import ApexError
from apex_mcp.logs import log_to_stderr
from apex_mcp.settings import Settings, load_server_settings
from apex_mcp.signals import on_stop

if TYPE_CHECKING:
    from apex_mcp.app import App

_CONCURRENCY = 4
_RETRY_SECONDS = 5.0
# The worker's own grace for what it has claimed, and what follows it.
_STOP_SECONDS = 20.0

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="apex-worker",
        description="Does the work of the server profile: ingestions, extraction, maintenance. Any number of workers can run. "
        "Needs PostgreSQL, Qdrant and Temporal on servers and shared staging; in the embedded profile the worker runs inside "
        "the daemon, which `apex-mcp` starts by itself.",
    )
    parser.add_argument(
        "--concurrency",
        type=_positive,
        default=_CONCURRENCY,
        metavar="N",
        help="runs of each kind at a time (%(default)s); a run is a document, or a group of up to 64 small ones",
    )
    parser.add_argument("--version", action="version", version=f"apex-worker {__version__}")
    given = parser.parse_args(arguments)
    try:
        settings = load_server_settings()
        log_to_stderr(settings.log_level)
        # psycopg's async connections need a selector loop on Windows, where it is not the default.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(_work(settings, given.concurrency))
    except ApexError as error:
        sys.stderr.write(f"apex-worker: {error}\n")
        raise SystemExit(1) from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


async def _work(settings: Settings, concurrency: int) -> None:
    """Work until asked to stop; what does not end by itself then is cancelled."""
    stopping = asyncio.Event()
    on_stop(asyncio.get_running_loop(), stopping.set)
    stopped = asyncio.create_task(stopping.wait())
    working = asyncio.create_task(_keep_working(settings, concurrency, stopping))
    await asyncio.wait([stopped, working], return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait([working], timeout=_STOP_SECONDS)
    stopped.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait([working])
    if not working.cancelled():
        working.result()
    _log.info("stopped")


async def _keep_working(settings: Settings, concurrency: int, stopping: asyncio.Event) -> None:
    # Imported late: `--help` and a refusal are at once.
    from apex_mcp.app import open_server_app
    from apex_worker.embedded import run_worker

    while not stopping.is_set():
        try:
            async with open_server_app(settings) as app:
                _log.info("version %s works, record %s, queue %s", __version__, app.record_id, app.task_queue)
                await _unless_lost(app, run_worker(app, stopping=stopping, concurrency=concurrency))
        except ApexError as error:
            # What does not get better by waiting ends the worker, and whoever runs it sees why.
            if not error.retryable:
                raise
            _log.warning("the stores are not open: %s", error)
        except Exception as error:  # noqa: BLE001  (a worker that broke off begins anew; what it had claimed goes on)
            _log.error("the worker failed: %s", type(error).__name__)
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY_SECONDS):
                await stopping.wait()


async def _unless_lost(app: "App", work: Awaitable[None]) -> None:
    """Work until it ends, or until the record may be another process's: then it is asked for again."""
    assert app.ownership is not None, "a worker's database is a server of the user's"
    working = asyncio.ensure_future(work)
    lost = asyncio.create_task(app.ownership.lost())
    try:
        await asyncio.wait([working, lost], return_when=asyncio.FIRST_COMPLETED)
    finally:
        lost.cancel()
        working.cancel()
        await asyncio.wait([working, lost])
    if not working.cancelled():
        working.result()
