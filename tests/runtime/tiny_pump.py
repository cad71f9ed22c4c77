"""The real pump over the tiny daemon: `python -m tests.runtime.tiny_pump [VERSION]`."""

import os
import sys

from apex_mcp import __version__
from apex_mcp.runtime import pump, wire
from apex_mcp.runtime.pump import Pump
from apex_mcp.runtime.wire import home_folder

if __name__ == "__main__":
    if patience := os.environ.get("TINY_PATIENCE_SECONDS"):
        pump._SILENCE_SECONDS = wire.HELLO_SECONDS = float(patience)
    Pump(
        home_folder(), version=sys.argv[1] if len(sys.argv) > 1 else __version__, module="tests.runtime.tiny"
    ).run()
