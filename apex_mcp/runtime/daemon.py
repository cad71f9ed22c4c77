"""The daemon of one data folder: `python -m apex_mcp.runtime.daemon HOME [--takeover]`.

It listens before it imports anything heavy; clients that come meanwhile wait in the socket's queue. What
started it reads one line from its standard output: `{"listening": true}`, `{"running": true}` where another
daemon has the folder, or `{"error": ...}`.
"""

import contextlib
import os
import secrets
import socket
import sys
import time
from pathlib import Path

from apex_mcp import __version__
from apex_mcp.errors import ApexError, Code, Invariant, Unavailable
from apex_mcp.left_overs import remove_unfinished
from apex_mcp.runtime import wire
from apex_mcp.runtime.home import DataFolder, storage_errors, write_json
from apex_mcp.runtime.lock import DaemonLock

# A daemon that is stopping holds the lock until PostgreSQL has written everything.
_LOCK_SECONDS = 20.0
_TAKEOVER_SECONDS = 60.0
_BACKLOG = 128


def main(services: str = "apex_mcp.runtime.embedded:open_embedded") -> int:
    """Run the daemon until it is stopped; the exit status.

    Args:
        services: what opens the services, as `module:function`; imported after listening.
    """
    folder = DataFolder(Path(sys.argv[1]))
    takeover = "--takeover" in sys.argv[2:]
    try:
        return _run(folder, takeover=takeover, services=services)
    except ApexError as error:
        _report({"error": wire.error_data(error)})
    except Exception as error:  # noqa: BLE001  (whoever started us must hear that we could not run)
        _report({"error": wire.error_data(Invariant(f"the daemon could not start ({type(error).__name__})"))})
    return 1


def _run(folder: DataFolder, *, takeover: bool, services: str) -> int:
    lock = DaemonLock(str(folder.daemon_lock))
    # While the lock is held, daemon.json says whether its holder takes clients or is going away.
    with storage_errors():
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        acquired = lock.acquire(
            give_up=lambda: not takeover and folder.daemon_json.exists(),
            timeout_seconds=_TAKEOVER_SECONDS if takeover else _LOCK_SECONDS,
        )
    if not acquired:
        if takeover or not folder.daemon_json.exists():
            raise _stuck()
        _report({"running": True})
        return 0
    try:
        _prepare(folder)
        listener, token = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG), secrets.token_urlsafe(32)
        write_json(
            folder.daemon_json,
            {
                "pid": os.getpid(),
                "port": listener.getsockname()[1],
                "token": token,
                "version": __version__,
                "protocol": wire.PROTOCOL,
                "started": time.time(),
            },
        )
        _report({"listening": True})
        from apex_mcp.runtime.serving import serve

        serve(listener, token=token, folder=folder, services=services)
        return 0
    finally:
        with contextlib.suppress(OSError):
            folder.daemon_json.unlink(missing_ok=True)
        lock.release()


def _prepare(folder: DataFolder) -> None:
    try:
        folder.prepare()
        remove_unfinished(folder.path)
    except ApexError:
        if not folder.secrets_json.exists():
            # Somebody's own folder, named by mistake: nothing of ours stays in it.
            folder.daemon_lock.unlink(missing_ok=True)
        raise
    with storage_errors():
        folder.daemon_json.unlink(missing_ok=True)
        os.chdir(folder.path)
    os.environ["APEX_HOME"] = str(folder.path)


def _stuck() -> Unavailable:
    return Unavailable(
        "another daemon holds the data folder and does not go away",
        code=Code.DAEMON_UNAVAILABLE,
        next_step="wait a minute and try again; if it stays, end that process (its id is in daemon.json or "
        "`apex-mcp status`)",
        retry_after_seconds=30,
    )


def _report(line: dict[str, object]) -> None:
    """Tell whoever started us, once; from then on standard output leads nowhere and holds no pipe open."""
    with contextlib.suppress(OSError):
        os.write(1, wire.encode(line))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
