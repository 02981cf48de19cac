"""How fast bytes get from a socket to a file at all: without a look at them.

As a program it downloads one URL: ``python -m tests.benchmarks.plain_copy URL FILE``
prints the seconds it took.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.measure import MIB, BenchmarkError, Sample
from tests.benchmarks.origin import Origin

_REPOSITORY = Path(__file__).parents[2]


class PlainCopy:
    """A process that has the kernel move an origin's files, one after the other."""

    name = "splice" if hasattr(os, "splice") else "recv and write"

    def __init__(self, origin: Origin, directory: Path) -> None:
        self._origin = origin
        self._target = directory / "plain"

    def run(self) -> Sample:
        """Download everything, and delete it again off the clock."""
        self._target.mkdir()
        samples = []
        try:
            for url in self._origin.urls:
                file = self._target / url.rpartition("/")[2]
                samples.append(self._copy(url, file))
            self._origin.check(self._target)
        finally:
            shutil.rmtree(self._target)
        return Sample(
            sum(sample.wall for sample in samples), sum(each.cpu for each in samples)
        )

    def _copy(self, url: str, file: Path) -> Sample:
        ended = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.plain_copy", url, str(file)],
            cwd=_REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise BenchmarkError(f"the plain copy failed: {ended.stderr[-300:]}")
        return Sample(**json.loads(ended.stdout))


def main(url: str, path: str) -> None:
    """Download, and print a ``Sample`` as JSON."""
    used, began = time.process_time(), time.perf_counter()
    target = urlsplit(url)
    address = (target.hostname or "", target.port or 80)
    with socket.create_connection(address) as connection, open(path, "wb") as file:
        request = f"GET {target.path} HTTP/1.0\r\nHost: {target.netloc}\r\n\r\n"
        connection.sendall(request.encode())
        file.write(_after_head(connection))
        file.flush()
        _move(connection.fileno(), file.fileno())
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    json.dump({"wall": wall, "cpu": cpu}, sys.stdout)


def _after_head(connection: socket.socket) -> bytes:
    """Read up to the end of the head; return what came with it of the body."""
    received = b""
    while b"\r\n\r\n" not in received:
        block = connection.recv(4096)
        if not block:
            raise BenchmarkError(f"no whole head: {received[:100]!r}")
        received += block
    return received.partition(b"\r\n\r\n")[2]


def _move(source: int, target: int) -> None:
    """Move what is left to come, by way of a pipe where the system can."""
    if not hasattr(os, "splice"):
        while block := os.read(source, MIB):
            os.write(target, block)
        return
    outlet, inlet = os.pipe()
    try:
        fcntl.fcntl(inlet, fcntl.F_SETPIPE_SZ, MIB)
        while moved := os.splice(source, inlet, MIB):
            while moved:
                moved -= os.splice(outlet, target, moved)
    finally:
        os.close(outlet)
        os.close(inlet)


if __name__ == "__main__":
    main(*sys.argv[1:])
