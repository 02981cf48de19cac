"""A server of the S3 protocol, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: where it is, and what a test may stop."""

    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def s3_server(**environment: str) -> Iterator[str]:
    """Run moto's server on a free port of loopback; yield its address."""
    with s3_process(**environment) as server:
        yield server.address


@contextmanager
def s3_process(**environment: str) -> Iterator[Server]:
    """Run moto's server on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(
        command,
        env=environment | {"PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            _await(process, port)
            yield Server(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError("moto's server does not start")


def make_bucket(address: str, name: str) -> None:
    """Make an empty bucket."""
    request = urllib.request.Request(f"{address}/{name}", method="PUT")
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.status == 200
