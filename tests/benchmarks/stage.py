"""What every case of ``bench events`` has: a Redis, a producer, a place for logs."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from broker.embedded import EmbeddedServer, find_server
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from tests.benchmarks.listeners import SCOPE
from tests.benchmarks.measure import (
    REDIS_URL,
    BenchmarkError,
    cpu_seconds,
    with_children,
)
from tests.benchmarks.service import running

_PATIENCE = 300.0  # s
_POLL = 0.002  # s


@dataclass(frozen=True, slots=True)
class Stage:
    """One case's own Redis and producer; this process is the producer."""

    directory: Path
    server: EmbeddedServer
    redis: Redis
    loop: asyncio.Runner
    manager: BackgroundFetchManager

    def program(self, *command: str, **more: str) -> AbstractContextManager[int]:
        """Run a program that finds this Redis in its environment."""
        log = self.directory / f"{command[1]}-{time.monotonic_ns()}.log"
        return running(command, {REDIS_URL: self.server.url, **more}, log)

    def subscriber(self, target: str, **more: str) -> AbstractContextManager[int]:
        """Run ``bgfetch subscribe``, without a line of log for each event."""
        listener = f"tests.benchmarks.listeners:{target}"
        command = ["-m", "workers.cli", "subscribe", listener]
        return self.program(*command, "--log-level", "warning", **more)

    def bare(self, mode: str) -> AbstractContextManager[int]:
        """Run a bare loop on a stream."""
        return self.program("-m", "tests.benchmarks.listeners", mode)

    def cpu(self, process: int) -> float:
        """CPU seconds of this process, of one with its children, and of Redis."""
        others = sum(map(cpu_seconds, with_children(process)))
        return time.process_time() + others + cpu_seconds(self.server.pid)


@contextmanager
def stage() -> Iterator[Stage]:
    """Start Redis and connect to it; all is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="bgfetch-bench-") as path,
        EmbeddedServer.start(Path(path) / "redis", die_with_parent=True) as server,
        Redis.from_url(server.url, socket_timeout=None) as redis,
        asyncio.Runner() as loop,
    ):
        os.environ[REDIS_URL] = server.url
        settings = Settings.load(redis_url=server.url, store=Path(path) / "store")
        connected = connect(scope=SCOPE, settings=settings)
        manager = loop.run(connected.__aenter__())
        try:
            yield Stage(Path(path), server, redis, loop, manager)
        finally:
            loop.run(connected.__aexit__(None, None, None))


def wait_for(is_so: Callable[[], bool], what: str) -> None:
    """Look again and again.

    Raises:
        BenchmarkError: it did not come.
    """
    deadline = time.monotonic() + _PATIENCE
    while not is_so():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {_PATIENCE:.0f} s for {what}")
        time.sleep(_POLL)


def redis_name() -> str:
    """Name the server and how durable it is."""
    server = find_server()
    return f"{server.kind} {server.version} with AOF everysec"
