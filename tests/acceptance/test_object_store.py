"""Workers on two machines whose one store is a bucket: real processes, real signals."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.bucket import Bucket
from broker.embedded import EmbeddedServer
from broker.manager import connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from tests.integration.s3 import make_bucket, s3_server
from workers.demo.origin import Origin

ROOT = Path(__file__).parents[2]
BODY = random.Random(5).randbytes(6_000_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path / "redis", die_with_parent=True) as running:
        yield running


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with s3_server() as address:
        bucket = f"bucket-{secrets.token_hex(8)}"
        make_bucket(address, bucket)
        yield f"s3://{bucket}/blobs?endpoint={address}&region=us-east-1"


async def test_a_killed_workers_download_goes_on_at_another_machine(
    server: EmbeddedServer, url: str, tmp_path: Path
) -> None:
    """Guarantees 2 and 7; R4, R6, R8, R16: read while it grows, and really deleted."""
    allowed = AddressPolicy.parse("loopback")
    settings = Settings(redis_url=server.url, store=url, allow_networks=allowed)
    environment = {
        **os.environ,
        "BGFETCH_REDIS_URL": server.url,
        "BGFETCH_STORE": url,
        "BGFETCH_ALLOW_NETWORKS": "loopback",
        "BGFETCH_LEASE": "1",
        "BGFETCH_CHECKPOINT_INTERVAL": "0.1",
        "BGFETCH_RELEASE_GRACE": "0",
        "BGFETCH_RETENTION": "5",
        "PYTHONPATH": str(ROOT),
    }
    workers: list[subprocess.Popen[bytes]] = []
    gate = asyncio.Event()

    def start_worker() -> None:
        command = [sys.executable, "-P", "-m", "workers.cli", "worker"]
        workers.append(subprocess.Popen(command, env=environment, cwd=tmp_path))

    try:
        async with (
            connect(scope="podcasts", settings=settings) as manager,
            Origin() as origin,
            asyncio.timeout(90),
        ):
            origin.add("/", BODY, hold=gate, hold_after=4_000_000)
            registration = await manager.fetch("x", origin.url("/"))
            start_worker()
            [record] = await registration.match_all()
            reading = (await record.response_ready).body
            seen = b""
            while len(seen) < 1_500_000:
                seen += await anext(reading)
            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait(10)
            gate.set()

            start_worker()
            async for block in reading:
                seen += block

            assert seen == BODY
            resumed = origin.log[-1].headers["range"]
            assert int(resumed.removeprefix("bytes=").rstrip("-")) >= 1_500_000
            await all_gone(url)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(10)


def left(url: str) -> list[str]:
    """What parts and blobs there still are."""
    bucket = Bucket(url)
    return [each.path for place in ("parts", "blobs") for each in bucket.list(place)]


async def all_gone(url: str) -> None:
    """Return when the last byte is deleted; the caller has a deadline."""
    while True:
        if not await asyncio.to_thread(left, url):
            return
        await asyncio.sleep(0.1)
