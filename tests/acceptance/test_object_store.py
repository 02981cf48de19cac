"""Workers on machines whose one store is a bucket: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from broker.bucket import Bucket
from broker.embedded import EmbeddedServer
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from tests.integration.s3 import Server, make_bucket, s3_process
from workers.demo.origin import Origin

ROOT = Path(__file__).parents[2]
BODY = random.Random(5).randbytes(6_000_000)


class Fleet:
    """Workers that have Redis and the bucket in common, and no file."""

    def __init__(self, redis_url: str, s3: Server, directory: Path) -> None:
        bucket = f"bucket-{secrets.token_hex(8)}"
        make_bucket(s3.address, bucket)
        options = f"endpoint={s3.address}&region=us-east-1"
        self.s3 = s3.process
        self.url = f"s3://{bucket}/blobs?{options}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self._directory = directory
        self._environment = {
            **os.environ,
            "BGFETCH_REDIS_URL": redis_url,
            "BGFETCH_STORE": self.url,
            "BGFETCH_ALLOW_NETWORKS": "loopback",
            "BGFETCH_LEASE": "1",
            "BGFETCH_CHECKPOINT_INTERVAL": "0.1",
            "BGFETCH_RELEASE_GRACE": "0",
            "BGFETCH_RETENTION": "5",
            "BGFETCH_GRACE": "3",
            "PYTHONPATH": str(ROOT),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker in a directory of its own."""
        home = self._directory / secrets.token_hex(4)
        home.mkdir()
        command = [sys.executable, "-P", "-m", "workers.cli", "worker"]
        worker = subprocess.Popen(command, env=self._environment, cwd=home)
        self.workers.append(worker)
        return worker

    def objects(self) -> list[str]:
        """What parts and blobs there are."""
        bucket = Bucket(self.url)
        places = ("parts", "blobs")
        return [each.path for place in places for each in bucket.list(place)]

    def close(self) -> None:
        """End whatever still runs."""
        for worker in self.workers:
            worker.kill()
            worker.wait(10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path / "redis", die_with_parent=True) as running:
        yield running


@pytest.fixture
def fleet(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fleet]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with s3_process() as s3:
        fleet = Fleet(server.url, s3, tmp_path)
        yield fleet
        fleet.close()


@pytest.fixture
async def manager(
    server: EmbeddedServer, fleet: Fleet
) -> AsyncIterator[BackgroundFetchManager]:
    allowed = AddressPolicy.parse("loopback")
    settings = Settings(redis_url=server.url, store=fleet.url, allow_networks=allowed)
    async with connect(scope="podcasts", settings=settings) as opened:
        yield opened


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        yield running


async def all_deleted(fleet: Fleet) -> None:
    """Return when the bucket has no bytes left; the caller has a deadline."""
    while True:
        if not await asyncio.to_thread(fleet.objects):
            return
        await asyncio.sleep(0.1)


async def test_a_killed_workers_download_goes_on_at_another_machine(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Guarantees 2 and 7; R4, R6, R8, R16: read while it grows, and really deleted."""
    gate, seen = asyncio.Event(), b""
    origin.add("/", BODY, hold=gate, hold_after=4_000_000)
    async with asyncio.timeout(90):
        registration = await manager.fetch("x", origin.url("/"))
        first = fleet.start()
        [record] = await registration.match_all()
        reading = (await record.response_ready).body
        while len(seen) < 1_500_000:
            seen += await anext(reading)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        gate.set()
        fleet.start()
        async for block in reading:
            seen += block
        await all_deleted(fleet)  # since retention ends soon

    assert seen == BODY
    resumed = origin.log[-1].headers["range"]
    assert int(resumed.removeprefix("bytes=").rstrip("-")) >= 1_500_000


async def test_a_worker_leaves_in_time_though_the_bucket_does_not_answer(
    manager: BackgroundFetchManager, fleet: Fleet, origin: Origin
) -> None:
    """Its grace is over long before the server's time is; another worker goes on."""
    gate = asyncio.Event()
    origin.add("/", BODY, hold=gate, hold_after=4_000_000)
    registration = await manager.fetch("x", origin.url("/"))
    first = fleet.start()
    async with asyncio.timeout(90):
        async for progress in registration.progress():
            if progress.downloaded >= 4_000_000:
                break
    fleet.s3.send_signal(signal.SIGSTOP)

    first.send_signal(signal.SIGTERM)
    await asyncio.to_thread(first.wait, 45)
    fleet.s3.send_signal(signal.SIGCONT)
    gate.set()
    fleet.start()
    async with asyncio.timeout(90):
        async for _ in registration.progress():
            pass

    assert registration.result == "success"
