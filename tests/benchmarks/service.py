"""Us in a download benchmark: a Redis of our own, a warm worker, a producer.

The clock runs from the call of ``fetch()`` to the completion event at its subscriber,
here a plain XREAD on the scope's stream. Producer and subscriber are this process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from redis.asyncio import Redis

from broker.blobs import Durability
from broker.cli.children import LEASH
from broker.embedded import EmbeddedServer
from broker.keys import ScopeKeys
from broker.manager import connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from schemas.events import EventMessage, EventType
from tests.benchmarks.measure import BenchmarkError, Sample, cpu_seconds, peak_mib
from tests.benchmarks.origin import Origin

SCOPE = "bench"
PRODUCERS = 32
"""Fetches that are being registered at a time."""
_PATIENCE = 600.0  # s for one run
_PATIENCE_AT_END = 20.0  # s for a program to end in order
_REPOSITORY = Path(__file__).parents[2]


class Service:
    """Worker processes with their Redis, downloading files of an origin."""

    def __init__(
        self,
        server: EmbeddedServer,
        workers: Sequence[int],
        settings: Settings,
        origin: Origin,
    ) -> None:
        self.server = server
        self._workers = workers
        self._origin = origin
        self._blobs = settings.store_directory / "blobs"
        self._last_event = "0"
        self._runs = 0
        self._loop = asyncio.Runner()
        self._connected = connect(scope=SCOPE, settings=settings)
        self._manager = self._loop.run(self._connected.__aenter__())
        self._subscriber = Redis.from_url(server.url, socket_timeout=None)

    def close(self) -> None:
        """Leave Redis."""
        self._loop.run(self._subscriber.aclose())
        self._loop.run(self._connected.__aexit__(None, None, None))
        self._loop.close()

    def contender(self, fetches: Sequence[Sequence[str]], name: str = "ours") -> Ours:
        """Return who downloads these URLs, so many in each background fetch."""
        return Ours(name, self, fetches)

    def download(self, fetches: Sequence[Sequence[str]]) -> Sample:
        """Fetch everything, and delete it again off the clock.

        Raises:
            BenchmarkError: it was not done, or not all of it.
        """
        self._runs += 1
        used = self._cpu()
        began = time.perf_counter()
        events = self._loop.run(self._fetch(fetches))
        wall = time.perf_counter() - began
        cpu = self._cpu() - used
        for event in events:
            if event.type is not EventType.SUCCESS:
                raise BenchmarkError(f"ours ended with {event.registration!r}")
        self._origin.check(self._blobs, sum(map(len, fetches)))
        for blob in self._blobs.iterdir():
            blob.unlink()
        return Sample(wall, cpu)

    @property
    def peak_mib(self) -> float:
        """The most memory that a worker has had resident."""
        return max(map(peak_mib, self._workers))

    def _cpu(self) -> float:
        others = [*self._workers, self.server.pid]
        return time.process_time() + sum(map(cpu_seconds, others))

    async def _fetch(self, fetches: Sequence[Sequence[str]]) -> list[EventMessage]:
        remaining = enumerate(fetches)
        async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as tasks:
            events = tasks.create_task(self._events(len(fetches)))
            for _ in range(min(PRODUCERS, len(fetches))):
                tasks.create_task(self._register(remaining))
        return events.result()

    async def _register(self, remaining: Iterator[tuple[int, Sequence[str]]]) -> None:
        for number, urls in remaining:
            await self._manager.fetch(f"run-{self._runs}-{number}", urls)

    async def _events(self, count: int) -> list[EventMessage]:
        """Read the next completion events of the scope."""
        found: list[EventMessage] = []
        while len(found) < count:
            stream = {ScopeKeys(SCOPE).events: self._last_event}
            reply: Any = await self._subscriber.xread(stream, block=0)  # type: ignore[arg-type]
            [[_, entries]] = reply
            found += [EventMessage.decode(fields[b"message"]) for _, fields in entries]
            self._last_event = entries[-1][0]
        return found


class Ours:
    """Us as a contender."""

    def __init__(
        self, name: str, service: Service, fetches: Sequence[Sequence[str]]
    ) -> None:
        self.name = name
        self._service, self._fetches = service, fetches

    def run(self) -> Sample:
        """Download everything, and delete it again off the clock."""
        return self._service.download(self._fetches)


@contextmanager
def serve(
    directory: Path,
    origin: Origin,
    *,
    workers: int = 1,
    hashed: bool = True,
    more: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Service]:
    """Start Redis and the workers, with what ``BGFETCH_*`` says otherwise.

    ``more`` are such variables for the workers.
    """
    directory.mkdir(exist_ok=True)
    store = directory / "store"
    with (
        EmbeddedServer.start(directory / "redis", die_with_parent=True) as server,
        ExitStack() as stack,
    ):
        settings = Settings.load(
            redis_url=server.url,
            store=store,
            durability=Durability.NONE,
            allow_networks=AddressPolicy.parse("loopback"),
        )
        variables = {
            "BGFETCH_REDIS_URL": server.url,
            "BGFETCH_STORE": str(store),
            "BGFETCH_DURABILITY": "none",
            "BGFETCH_DIGEST": "sha256" if hashed else "none",
            "BGFETCH_ALLOW_NETWORKS": "loopback",
            **more,
        }
        logs = [directory / f"worker-{number}.log" for number in range(workers)]
        command = ["-m", "workers.cli", "worker"]
        processes = [
            stack.enter_context(running(command, variables, log)) for log in logs
        ]
        service = Service(server, processes, settings, origin)
        try:
            yield service
        finally:
            service.close()


@contextmanager
def running(
    arguments: Sequence[str], variables: Mapping[str, str], log: Path
) -> Iterator[int]:
    """Run a program of Python; it ends with the context, ours with this process too."""
    leash, ours = os.pipe()
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=_REPOSITORY,
                env={**os.environ, **variables, LEASH: str(leash)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[leash],
            )
    finally:
        os.close(leash)
    try:
        yield process.pid
    finally:
        os.close(ours)  # which ours notices, even if this process is killed
        process.terminate()
        try:
            process.wait(_PATIENCE_AT_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
