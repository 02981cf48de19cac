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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from broker.blobs import Durability
from broker.cli.children import LEASH
from broker.embedded import EmbeddedServer
from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from schemas.events import EventMessage, EventType
from tests.benchmarks.measure import BenchmarkError, Sample, cpu_seconds, peak_mib
from tests.benchmarks.origin import Origin

SCOPE = "bench"
_PATIENCE = 600.0  # s for one run
_REPOSITORY = Path(__file__).parents[2]


class Service:
    """One worker process with its Redis, downloading all files of an origin."""

    name = "ours"

    def __init__(
        self, server: EmbeddedServer, worker: int, settings: Settings, origin: Origin
    ) -> None:
        self._server, self._worker = server, worker
        self._settings, self._origin = settings, origin
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

    def run(self) -> Sample:
        """Fetch everything, and delete it again off the clock."""
        self._runs += 1
        used = self._cpu()
        began = time.perf_counter()
        event = self._loop.run(self._fetch(self._manager))
        wall = time.perf_counter() - began
        cpu = self._cpu() - used
        if event.type is not EventType.SUCCESS:
            raise BenchmarkError(f"ours ended with {event.registration!r}")
        self._origin.check(self._blobs)
        for blob in self._blobs.iterdir():
            blob.unlink()
        return Sample(wall, cpu)

    @property
    def peak_mib(self) -> float:
        """The most memory that the worker has had resident."""
        return peak_mib(self._worker)

    def _cpu(self) -> float:
        others = cpu_seconds(self._worker) + cpu_seconds(self._server.pid)
        return time.process_time() + others

    async def _fetch(self, manager: BackgroundFetchManager) -> EventMessage:
        async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as tasks:
            event = tasks.create_task(self._next_event())
            await manager.fetch(f"run-{self._runs}", self._origin.urls)
        return event.result()

    async def _next_event(self) -> EventMessage:
        stream = {ScopeKeys(SCOPE).events: self._last_event}
        reply: Any = await self._subscriber.xread(stream, block=0)  # type: ignore[arg-type]
        [[_, [[entry, fields]]]] = reply
        self._last_event = entry
        return EventMessage.decode(fields[b"message"])


@contextmanager
def serve(directory: Path, origin: Origin) -> Iterator[Service]:
    """Start Redis and the worker, with what ``BGFETCH_*`` says otherwise."""
    store = directory / "store"
    with EmbeddedServer.start(directory / "redis", die_with_parent=True) as server:
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
            "BGFETCH_ALLOW_NETWORKS": "loopback",
        }
        with _worker(variables, directory / "worker.log") as process_id:
            service = Service(server, process_id, settings, origin)
            try:
                yield service
            finally:
                service.close()


@contextmanager
def _worker(variables: dict[str, str], log: Path) -> Iterator[int]:
    leash, ours = os.pipe()
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "worker"],
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
        os.close(ours)  # which the worker notices, even if this process is killed
        process.wait()
