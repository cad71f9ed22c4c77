"""The real pump over the tiny daemon: `python -m tests.runtime.tiny_pump [VERSION]`."""

import sys

from apex_mcp import __version__
from apex_mcp.runtime.pump import Pump
from apex_mcp.runtime.wire import home_folder

if __name__ == "__main__":
    Pump(
        home_folder(), version=sys.argv[1] if len(sys.argv) > 1 else __version__, module="tests.runtime.tiny"
    ).run()
