"""What a daemon that was killed left running of a data folder, ended where no daemon is there to adopt it."""

from apex_mcp.runtime.home import DataFolder, storage_errors
from apex_mcp.runtime.lock import DaemonLock
from apex_mcp.runtime.postgres import EmbeddedPostgres
from apex_mcp.runtime.temporal import EmbeddedTemporal


async def end_orphans(folder: DataFolder) -> list[str] | None:
    """End them; their names. None, and nothing is touched, where some process has the data folder.

    Raises:
        Rejected: the folder cannot be used, or a process cannot be ended (`data_folder_unusable`).
    """
    if not folder.secrets_json.exists():
        return []
    lock = DaemonLock(str(folder.daemon_lock))
    with storage_errors():
        if not lock.acquire(give_up=lambda: True, timeout_seconds=0):
            return None
    try:
        # It is a dead one's. A daemon that starts meanwhile waits for the lock where there is none.
        folder.daemon_json.unlink(missing_ok=True)
        orphans = {"Temporal": EmbeddedTemporal(folder), "PostgreSQL": EmbeddedPostgres(folder)}
        return [name for name, orphan in orphans.items() if await orphan.end_left_over()]
    finally:
        lock.release()
