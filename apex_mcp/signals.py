"""What asks a service to stop: SIGTERM and SIGINT, on Windows Ctrl-C and Ctrl-Break."""

import asyncio
import signal
import sys
from collections.abc import Callable


def on_stop(loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
    """Call `stop`, in the loop, whenever the process is asked to."""
    if sys.platform == "win32":
        for number in (signal.SIGINT, signal.SIGBREAK):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))
    else:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
