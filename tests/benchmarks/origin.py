"""The origin of a download benchmark: nginx on loopback, in a directory of its own."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import MIB, BenchmarkError, find_program

_PATIENCE = 10.0  # s until it answers
# It ends with its starter, even if that is killed: then stdin closes.
_LEASHED = '"$0" "$@" & read -r _; kill $!; wait'
# One process without a master, since nobody watches it but its starter.
_CONFIGURATION = """\
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  client_body_temp_path temporary/body;
  proxy_temp_path temporary/proxy;
  fastcgi_temp_path temporary/fastcgi;
  uwsgi_temp_path temporary/uwsgi;
  scgi_temp_path temporary/scgi;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port};
    root files;
    limit_rate {rate};
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """A running origin that has ``count`` files of ``size`` bytes."""

    base: str
    files: Path
    count: int
    size: int

    @property
    def urls(self) -> list[str]:
        """One URL for each file."""
        return [f"{self.base}{_name(number)}" for number in range(self.count)]

    @property
    def sha256(self) -> str:
        """The digest of each file, hexadecimal: their bytes are the same."""
        with open(self.files / _name(0), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def check(self, directory: Path, count: int | None = None) -> None:
        """Make sure that ``count`` files are there, by default all, with all bytes.

        Raises:
            BenchmarkError: they are not.
        """
        count = self.count if count is None else count
        sizes = [entry.stat().st_size for entry in os.scandir(directory)]
        if sizes != [self.size] * count:
            raise BenchmarkError(
                f"{len(sizes)} files with {sum(sizes)} bytes in {directory}, "
                f"not {count} of {self.size} bytes each"
            )


@contextmanager
def serve(directory: Path, count: int, size: int, *, rate: int = 0) -> Iterator[Origin]:
    """Write the files into ``directory``, and serve them until the context ends.

    ``rate`` limits each answer, in bytes a second; 0 does not.

    Raises:
        BenchmarkError: nginx is missing, or does not start.
    """
    nginx = find_program("nginx")
    if nginx is None:
        raise BenchmarkError("no nginx here: sudo apt-get install -y nginx-light")
    files = directory / "files"
    files.mkdir(parents=True)
    (directory / "temporary").mkdir()
    block = os.urandom(min(size, MIB))
    for number in range(count):
        _write(files / _name(number), size, block)
    port = _free_port()
    (directory / "nginx.conf").write_text(_CONFIGURATION.format(port=port, rate=rate))
    command = [nginx, "-p", str(directory), "-c", "nginx.conf"]
    with _running(command, directory / "error.log", port):
        yield Origin(f"http://127.0.0.1:{port}/", files, count, size)


def _name(number: int) -> str:
    return f"{number:05}.bin"


def _write(path: Path, size: int, block: bytes) -> None:
    with open(path, "wb") as file:
        while (missing := size - file.tell()) > 0:
            file.write(block[:missing])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str], log: Path, port: int) -> Iterator[None]:
    process = subprocess.Popen(
        ["/bin/sh", "-c", _LEASHED, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(process, log, port)
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def _await(process: subprocess.Popen[bytes], log: Path, port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    said = log.read_text(errors="replace") if log.exists() else ""
    raise BenchmarkError(f"nginx does not start: {said.strip()[-300:]}")
