"""Importing in threads, one at a time.

Two threads that enter one package by different modules wait for each other's import locks; Python breaks that
tie by handing one of them a module that is not finished, and its import fails. So whatever the start imports
in a thread, while other threads import too, comes by here.
"""

import importlib
import threading
from types import ModuleType

_ONE_AT_A_TIME = threading.Lock()


def load(name: str) -> ModuleType:
    """Import a module; takes seconds for a heavy one, and waits for what another thread loads."""
    with _ONE_AT_A_TIME:
        return importlib.import_module(name)
