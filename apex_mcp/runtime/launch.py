"""Find the daemon of a data folder, or start it. Used by the pump, so it imports little."""

import os
import secrets
import socket
import sys
import time
from typing import IO, Any, cast

from apex_mcp import __version__
from apex_mcp.errors import ApexError, Code, Invariant, Rejected, Unavailable
from apex_mcp.runtime import wire
from apex_mcp.runtime.lock import is_held

DAEMON_MODULE = "apex_mcp.runtime.daemon"
PATIENCE_SECONDS = 30.0

# A daemon that was asked to make room has its successor waiting already: its clients don't start another one.
_SUCCESSOR_SECONDS = 10.0
_RESTART_SECONDS = 2.0
_POLL_SECONDS = 0.01
_CONNECT_SECONDS = 2.0
# A port that is silent for longer is asked about: is there a daemon at all?
_SILENCE_SECONDS = 0.5

# What the daemon and its children need of the first client's environment.
_KEPT = frozenset(
    """PATH HOME USER LOGNAME SHELL TMPDIR TMP TEMP TZ LANG LANGUAGE VIRTUAL_ENV
    PYTHONPATH PYTHONHOME PYTHONUTF8 LD_LIBRARY_PATH DYLD_LIBRARY_PATH
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
    SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT PROCESSOR_ARCHITECTURE NUMBER_OF_PROCESSORS
    USERNAME USERPROFILE USERDOMAIN APPDATA LOCALAPPDATA HOMEDRIVE HOMEPATH PUBLIC
    PROGRAMDATA PROGRAMFILES PROGRAMFILES(X86)""".split()
)
_KEPT_PREFIXES = ("APEX_", "LC_", "XDG_", "HF_", "FASTEMBED_")
_OF_ONE_CLIENT = frozenset({"APEX_ROOTS", "APEX_NAMESPACE"})


class Link:
    """A connection that the daemon has accepted.

    Attributes:
        version: the daemon's version.
        notices: what this client's user should be told.
    """

    def __init__(self, sock: socket.socket, lines: IO[bytes], reply: dict[str, Any]) -> None:
        self._socket = sock
        self._lines = lines
        self.version = str(reply.get("version", ""))
        self.notices: list[str] = reply.get("notices", [])

    def send(self, line: bytes) -> bool:
        """Send one line; False when the connection is dead, which `receive` then says as well."""
        try:
            self._socket.sendall(line)
        except OSError:
            return False
        return True

    def receive(self) -> bytes:
        """The next line with its end; empty when the connection is over."""
        try:
            line = self._lines.readline()
        except (OSError, ValueError):
            return b""
        # A line cut off by the daemon's death is no message.
        return line if line.endswith(b"\n") else b""

    def close(self) -> None:
        # Shutting down wakes a thread that is reading; closing alone would not.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._lines.close()
        self._socket.close()


def open_link(
    home: str,
    mode: str,
    *,
    vouched: bool = False,
    version: str = __version__,
    start: bool = True,
    successor_expected: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    module: str = DAEMON_MODULE,
) -> Link:
    """Connect to the daemon of `home`; where there is none, or an older one, start it first.

    Args:
        home: the data folder.
        mode: `wire.MODE_MCP` or `wire.MODE_CONTROL`.
        vouched: the user typed the paths of this connection's requests.
        version: our own; an older daemon is asked to make room.
        start: False only connects to a daemon that runs.
        successor_expected: another process is starting the next daemon; give it time before starting one.
        patience_seconds: how long to try.
        module: what to run as the daemon.

    Raises:
        Unavailable: there is no daemon and none could be started now.
        Rejected: the daemon can't be started, or refuses this client; the same will happen again.
    """
    if os.path.exists(home) and not os.path.isdir(home):
        raise Rejected(
            "the data folder's path names something that is not a folder",
            code=Code.DATA_FOLDER_UNUSABLE,
            next_step="set APEX_HOME to a folder that you own and can write",
        )
    hello: dict[str, Any] = {
        "mode": mode,
        "version": version,
        "env": {name: value for name, value in os.environ.items() if name.startswith("APEX_")},
        "cwd": _current_folder(),
        "vouched": vouched,
    }
    now = time.monotonic()
    deadline = now + patience_seconds
    next_start = now + _SUCCESSOR_SECONDS if successor_expected else now
    took_over = False
    while True:
        info = wire.read_info(home)
        if info is not None:
            if start and not took_over and wire.version_key(version) > wire.version_key(str(info["version"])):
                took_over = True
                _take_over(home, info, module)
                continue
            link = _knock(home, info, hello)
            if link is not None:
                return link
        if not start:
            _require_none(home)
            raise Unavailable(
                "no daemon is running",
                code=Code.DAEMON_UNAVAILABLE,
                next_step="any command that needs it, or an MCP client, starts it",
            )
        now = time.monotonic()
        if now > deadline:
            _require_none(home)
            raise Unavailable(
                "the daemon did not come up in time",
                code=Code.DAEMON_UNAVAILABLE,
                next_step="try again; `apex-mcp doctor` and logs/daemon.log in the data folder say more",
                retry_after_seconds=5,
            )
        if now >= next_start:
            _Starting(home, module, takeover=False).finish()
            next_start = time.monotonic() + _RESTART_SECONDS
        else:
            time.sleep(_POLL_SECONDS)


def require_answer(home: str) -> None:
    """Pass unless the daemon of `home` runs and does not answer.

    Raises:
        Unavailable: so it is (`daemon_unavailable`).
    """
    info = wire.read_info(home)
    if info is None:
        return
    hello: dict[str, Any] = {"mode": wire.MODE_CONTROL, "version": __version__, "env": {}, "cwd": ""}
    try:
        link = _knock(home, info, hello)
    except ApexError:
        return  # a refusal is an answer
    if link is None:
        _require_none(home)
    else:
        link.close()


def _require_none(home: str) -> None:
    """Raise if a daemon has the data folder, and yet nobody answered where it said that it listens."""
    info = wire.read_info(home)
    # Without that file it is starting or ending.
    if info is None or not is_held(os.path.join(home, wire.LOCK_FILE)):
        return
    pid = info.get("pid")
    raise Unavailable(
        f"the daemon (process {pid}) runs and does not answer",
        code=Code.DAEMON_UNAVAILABLE,
        next_step=f"try again; if it stays so, end process {pid} (`kill -9 {pid}`, on Windows `taskkill /F /PID {pid}`): "
        "what was accepted is kept, and the next command or client starts it anew",
        retry_after_seconds=5,
        details={"pid": pid},
    )


def _take_over(home: str, info: dict[str, Any], module: str) -> None:
    """Put our daemon in line for the lock, then ask the older one to make room."""
    # In this order, so that no older client can start the older version again in between.
    successor = _Starting(home, module, takeover=True)
    link = _knock(home, info, {"mode": wire.MODE_DRAIN})
    if link is not None:
        while link.receive():
            pass
        link.close()
    successor.finish()


def _knock(home: str, info: dict[str, Any], hello: dict[str, Any]) -> Link | None:
    """Connect and say hello; None when no daemon answers there.

    Raises:
        ApexError: the daemon refuses this client.
    """
    token, challenge = str(info["token"]), secrets.token_hex(16)
    try:
        sock = socket.create_connection(("127.0.0.1", int(info["port"])), timeout=_CONNECT_SECONDS)
    except (OSError, ValueError):
        return None
    accepted, lines = False, None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(wire.encode({"apex-mcp": wire.PROTOCOL, "challenge": challenge}))
        if not _speaks(sock) and not is_held(os.path.join(home, wire.LOCK_FILE)):
            # The file is of a daemon that was killed, and its port is somebody else's now.
            return None
        # The daemon listens before it can answer: while it imports, it is slow, not dead.
        sock.settimeout(wire.HELLO_SECONDS)
        lines = cast("IO[bytes]", sock.makefile("rb", buffering=1 << 18))
        if wire.decode(lines.readline(4096)).get("proof") != wire.proof(token, challenge):
            return None
        sock.sendall(wire.encode({**hello, "token": token}))
        reply = wire.decode(lines.readline(1 << 20))
        if reply.get("ok") is True:
            sock.settimeout(None)
            accepted = True
            return Link(sock, lines, reply)
        if "error" in reply:
            raise wire.error_from(reply["error"])
        return None
    except OSError:
        return None
    finally:
        if not accepted:
            if lines is not None:
                # Else it would keep the socket open.
                lines.close()
            sock.close()


def _speaks(sock: socket.socket) -> bool:
    """Whether the other side says anything, or ends the connection, within a moment."""
    sock.settimeout(_SILENCE_SECONDS)
    try:
        sock.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return False
    return True


def _current_folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


class _Starting:
    """A daemon being started: outside our process group and job, since an MCP client ends all of its own."""

    def __init__(self, home: str, module: str, *, takeover: bool) -> None:
        # -P: what lies in the current folder is never imported.
        command = [sys.executable, "-P", "-m", module, home, *(["--takeover"] if takeover else [])]
        try:
            self._report = (
                _spawn_windows(command, home) if sys.platform == "win32" else _spawn_posix(command, home)
            )
        except OSError as error:
            raise Unavailable(
                f"the daemon's process could not be started ({type(error).__name__})",
                code=Code.DAEMON_UNAVAILABLE,
                next_step="check that the system lets you start more processes, then try again",
            ) from error

    def finish(self) -> None:
        """Wait until it listens, or leaves that to another one.

        Raises:
            ApexError: it said why it can't run.
        """
        if self._report is None:
            return
        with self._report:
            report = wire.decode(self._report.readline())
        if "error" in report:
            raise wire.error_from(report["error"])
        if not report:
            raise Invariant(
                "the daemon ended before it could say why",
                code=Code.DAEMON_UNAVAILABLE,
                next_step="run `apex-mcp doctor`; reinstalling apex-mcp cures a damaged installation",
            )


def daemon_environment(home: str) -> dict[str, str]:
    """What the daemon gets of our environment. Roots and namespace are each client's own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name.upper() in _KEPT or name.upper().startswith(_KEPT_PREFIXES)) and name not in _OF_ONE_CLIENT
    }
    return kept | {"APEX_HOME": home}


def _spawn_posix(command: list[str], home: str) -> IO[bytes] | None:
    import subprocess

    # The shell goes at once and leaves the daemon to init: in another session, and never a zombie of ours.
    shell = subprocess.Popen(
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=daemon_environment(home),
        bufsize=-1,
    )
    shell.wait()
    return shell.stdout


def _spawn_windows(command: list[str], home: str) -> IO[bytes] | None:
    import subprocess

    assert sys.platform == "win32"
    # Not DETACHED_PROCESS: console programs that the daemon starts would each open a window then.
    flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    environment = daemon_environment(home)
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=flags | subprocess.CREATE_BREAKAWAY_FROM_JOB,
            env=environment,
            bufsize=-1,
        )
    except PermissionError:
        # The client's job forbids breakaway. What Windows Management starts is in no job of ours. The
        # environment travels in powershell's own, not on a command line. No pipe: only daemon.json tells.
        script = (
            "$e = [string[]](Get-ChildItem env: | ForEach-Object { $_.Name + '=' + $_.Value });"
            "$s = New-CimInstance -ClassName Win32_ProcessStartup -ClientOnly -Property @{"
            "EnvironmentVariables = $e; ShowWindow = [uint16]0};"
            "$r = Invoke-CimMethod -ClassName Win32_Process -MethodName Create -Arguments @{"
            f"CommandLine = '{subprocess.list2cmdline(command).replace(chr(39), chr(39) * 2)}';"
            "ProcessStartupInformation = $s}; exit $r.ReturnValue"
        )
        done = subprocess.run(
            ["powershell.exe", "-NoProfile", "-NonInteractive", "-Command", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            creationflags=subprocess.CREATE_NO_WINDOW,
            env=environment,
            check=False,
        )
        if done.returncode != 0:
            raise OSError(done.returncode, "Win32_Process.Create") from None
        return None
    return process.stdout
