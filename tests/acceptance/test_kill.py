"""Real processes killed with real signals: every file whole, every event handled."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from broker.embedded import EmbeddedServer
from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from schemas.fetches import Progress
from workers.demo.origin import Origin

SCOPE = "podcasts"
ROOT = Path(__file__).parents[2]
HANDLER = '''
import asyncio, os, sys
from pathlib import Path
from workers import BackgroundFetchEvent, ServiceWorker

sw = ServiceWorker("podcasts")
handled = Path(os.environ["HANDLED"])


async def handle(event: BackgroundFetchEvent) -> None:
    """Say who handles which attempt; hold on to the first one for ever."""
    line = f"{event.type} {event.registration.id} {event.attempt} {os.getpid()}\\n"
    with handled.open("a") as file:
        file.write(line)
    if os.environ.get("HANG") == "1" and event.attempt == 1:
        await asyncio.Event().wait()


for type in ("success", "fail", "abort", "click"):
    sw.add_event_listener(f"backgroundfetch{type}", handle)
'''


class Fleet:
    """Processes of the command line, and what they may be asked to do: die."""

    def __init__(self, url: str, directory: Path) -> None:
        self.handled = directory / "handled"
        self.handled.touch()
        (directory / "handler.py").write_text(HANDLER)
        self.environment = {
            **os.environ,
            "BGFETCH_REDIS_URL": url,
            "BGFETCH_STORE": str(directory / "store"),
            "BGFETCH_ALLOW_NETWORKS": "loopback",
            "BGFETCH_LEASE": "1",
            "BGFETCH_BACKOFF": "0.05",
            "BGFETCH_CHECKPOINT_INTERVAL": "0.1",
            "HANDLED": str(self.handled),
            "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self._log = (directory / "log").open("ab")

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one ``bgfetch`` process."""
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", *command],
            env={**self.environment, **environment},
            stdout=self._log,
            stderr=self._log,
        )
        self.processes.append(process)
        return process

    def subscribe(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start one process of the subscriber."""
        return self.start("subscribe", "handler:sw", **environment)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill with SIGKILL: nothing in the process can react."""
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        self.processes.remove(process)

    def close(self) -> None:
        """End whatever still runs."""
        for process in self.processes:
            process.kill()
            process.wait(10)
        self._log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path / "redis", die_with_parent=True) as running:
        yield running


@pytest.fixture
def fleet(server: EmbeddedServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(server.url, tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
async def manager(
    server: EmbeddedServer, tmp_path: Path
) -> AsyncIterator[BackgroundFetchManager]:
    settings = Settings(
        redis_url=server.url,
        store=tmp_path / "store",
        allow_networks=AddressPolicy.parse("loopback"),
    )
    async with connect(scope=SCOPE, settings=settings) as opened:
        yield opened


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        yield running


async def until(registration: BackgroundFetchRegistration, least: int) -> Progress:
    """Wait until so many bytes are stored, or the fetch has ended."""
    async with asyncio.timeout(60):
        async for progress in registration.progress():
            if progress.downloaded >= least or progress.result:
                return progress
    raise AssertionError("progress ended without a result")


async def lines(path: Path, count: int) -> list[list[str]]:
    """Wait until a file has so many lines."""
    async with asyncio.timeout(60):
        while True:
            found = (await anyio.Path(path).read_text()).splitlines()
            if len(found) >= count:
                return [line.split() for line in found]
            await asyncio.sleep(0.02)


async def test_workers_killed_at_random_moments_lose_no_byte(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Guarantees 2, 3 and 7; R1, R2, R3, R6."""
    choose = random.Random(7)
    bodies = {f"/{n}": choose.randbytes(400_000 + 1000 * n) for n in range(12)}
    for path, body in bodies.items():
        origin.add(path, body, rate=150_000)
    total = sum(map(len, bodies.values()))
    urls = [origin.url(path) for path in bodies]
    fleet.subscribe()
    workers = [fleet.start("worker") for _ in range(2)]

    registration = await manager.fetch("x", urls)
    for share in sorted(choose.uniform(0.25, 0.8) for _ in range(3)):
        await until(registration, round(share * total))
        for worker in workers:  # one of them holds the lane
            fleet.kill(worker)
        workers = [fleet.start("worker") for _ in range(2)]
    ended = await until(registration, 2 * total)
    handled = await lines(fleet.handled, 1)

    assert ended.result == "success"
    assert [line[:3] for line in handled] == [["backgroundfetchsuccess", "x", "1"]]
    resumed = [seen for seen in origin.log if "range" in seen.headers]
    assert resumed, "a killed worker's bytes were downloaded again"


async def test_files_are_those_of_the_origin_after_the_kills(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Guarantee 2: bytes compared one by one; the hold keeps them readable."""
    choose = random.Random(11)
    bodies = {f"/{n}": choose.randbytes(300_000) for n in range(6)}
    for path, body in bodies.items():
        origin.add(path, body, rate=200_000, cut_after=[100_000])
    worker = fleet.start("worker")
    fleet.start("worker")

    registration = await manager.fetch(
        "x", [origin.url(path) for path in bodies], hold=timedelta(hours=1)
    )
    await until(registration, 500_000)
    fleet.kill(worker)
    ended = await until(registration, 10**9)

    assert ended.result == "success"
    for record in await registration.match_all():
        path = record.request.url.removeprefix(origin.url(""))
        stored = await (await record.response_ready).read()
        assert stored == bodies["/" + path.lstrip("/")]


async def test_a_killed_subscribers_event_is_handled_by_another_process(
    manager: BackgroundFetchManager, fleet: Fleet
) -> None:
    """Guarantees 3 and 4; R10: the one that holds it dies."""
    processes = {p.pid: p for p in (fleet.subscribe(HANG="1") for _ in range(2))}
    registration = await manager.fetch("x", "https://cdn.example/1")
    await registration.abort()
    [first] = await lines(fleet.handled, 1)
    await registration.refresh()
    available = registration.records_available

    fleet.kill(processes[int(first[3])])
    _, second = await lines(fleet.handled, 2)
    async with asyncio.timeout(30):
        while registration.records_available:
            await registration.changed(since=registration.state.progress)
            await registration.refresh()

    assert available
    assert second[:3] == ["backgroundfetchabort", "x", "2"]
    assert second[3] != first[3]


async def test_a_producer_may_die_as_soon_as_fetch_has_returned(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Guarantee 1, BF-FETCH-23: the job was never enqueued, and the work is done."""
    origin.add("/a", b"x" * 1000)
    program = (
        "import asyncio, os, signal\n"
        "from broker import connect\n"
        "async def main():\n"
        "    async with connect(scope='podcasts') as background_fetch:\n"
        "        background_fetch._enqueue = die\n"
        f"        await background_fetch.fetch('x', [{origin.url('/a')!r}])\n"
        "async def die(*_):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    producer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=fleet.environment
    )
    async with asyncio.timeout(60):
        died = await producer.wait()
    fleet.start("worker")

    found = await manager.find("x")
    assert found is not None
    ended = await until(found, 10**9)

    assert died == -signal.SIGKILL
    assert ended.result == "success"


async def test_workers_and_subscribers_outlive_a_killed_redis(
    tmp_path: Path, origin: Origin
) -> None:
    """Faults 76: they reconnect; what was acknowledged before is not lost."""
    origin.add("/a", b"x" * 900_000, rate=300_000)
    directory = tmp_path / "redis"
    server = EmbeddedServer.start(directory, die_with_parent=True)
    fleet = Fleet(server.url, tmp_path)
    try:
        fleet.start("worker")
        fleet.subscribe()
        settings = Settings(redis_url=server.url, store=tmp_path / "store")
        settings = settings.model_copy(
            update={"allow_networks": AddressPolicy.parse("loopback")}
        )
        async with connect(scope=SCOPE, settings=settings) as manager:
            registration = await manager.fetch("x", origin.url("/a"))
            await until(registration, 200_000)
            # The append-only file is written within a second of each command.
            await manager.connection.ask("CONFIG", "SET", "appendfsync", "always")
            os.kill(server.pid, signal.SIGKILL)
            server.stop()
            server = EmbeddedServer.start(directory, die_with_parent=True)
            handled = await lines(fleet.handled, 1)

        assert handled[0][:2] == ["backgroundfetchsuccess", "x"]
        assert all(process.poll() is None for process in fleet.processes)
    finally:
        fleet.close()
        server.stop()
