"""The lock that says which process is a data folder's daemon. The system frees it, however that ends."""

import os
import sys
import time
from collections.abc import Callable

_POLL_SECONDS = 0.02


class DaemonLock:
    """Held for the daemon's whole life.

    POSIX record locks aren't inherited, so an orphaned PostgreSQL or parser never keeps a dead daemon's lock.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, *, give_up: Callable[[], bool], timeout_seconds: float) -> bool:
        """Wait for the lock until it is had (True), `give_up` says so or the time is over (False).

        Raises:
            OSError: the lock file can't be opened.
        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout_seconds
        while not _try_lock(file):
            if give_up() or time.monotonic() > deadline:
                os.close(file)
                return False
            time.sleep(_POLL_SECONDS)
        self._file = file
        return True

    def release(self) -> None:
        """Give the lock free; the file stays, since removing it would let two holders meet."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def is_held(path: str) -> bool:
    """Whether some other process holds the lock now; it is tried for, and freed at once."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        # Not ours to open: whoever may, holds it for all that we know.
        return True
    try:
        return not _try_lock(file)
    finally:
        os.close(file)


def _try_lock(file: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
