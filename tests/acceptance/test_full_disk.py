"""Workers on a file system that is really full, or really read-only (faults 70-71)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.embedded import EmbeddedServer
from broker.keys import FetchKeys
from broker.manager import connect
from broker.records import RecordReader
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from workers.demo.origin import Origin

ROOT = Path(__file__).parents[2]
SMALL = [bytes([n]) * 50_000 for n in range(4)]
# In a namespace of its own: nobody else sees the file system, and it ends with it.
MOUNTED = "mount -t tmpfs -o size=2m tmpfs {store} && {more} exec {worker}"
READ_ONLY = "mount -o remount,ro {store} &&"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start(tmp_path / "redis", die_with_parent=True) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A mount point, where this user may mount something."""
    place = tmp_path / "store"
    place.mkdir()
    trial = MOUNTED.format(store=place, more="", worker="true")
    try:
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", trial], capture_output=True, timeout=30
        )
    except FileNotFoundError:
        pytest.skip("needs unshare (util-linux)")
    if done.returncode:
        pytest.skip(f"may not mount here: {done.stderr.decode()}")
    return place


def worker_on(store: Path, url: str, more: str = "") -> subprocess.Popen[str]:
    """Start a worker whose store is a file system of 2 MiB."""
    worker = f"{sys.executable} -P -m workers.cli worker"
    script = MOUNTED.format(store=store, more=more.format(store=store), worker=worker)
    environment = {
        **os.environ,
        "BGFETCH_REDIS_URL": url,
        "BGFETCH_STORE": str(store),
        "BGFETCH_ALLOW_NETWORKS": "loopback",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", script],
        env=environment,
        cwd=store.parent,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_a_full_disk_fails_what_does_not_fit_and_has_its_room_again(
    server: EmbeddedServer, store: Path
) -> None:
    """Fault 70, BF-REC-17: what was there before stays, what comes later is stored."""
    settings = Settings(
        redis_url=server.url,
        store=store,
        allow_networks=AddressPolicy.parse("loopback"),
    )
    worker = worker_on(store, server.url)
    try:
        async with (
            connect(scope="podcasts", settings=settings) as manager,
            Origin() as origin,
            asyncio.timeout(90),
        ):
            origin.add("/large", bytes(10_000_000))
            for n, body in enumerate(SMALL):
                origin.add(f"/{n}", body)
            small = [origin.url(f"/{n}") for n in range(len(SMALL))]
            ended = []
            for id, urls in (("x", small), ("y", [origin.url("/large")]), ("z", small)):
                registration = await manager.fetch(id, urls)
                async for _ in registration.progress():
                    pass
                ended.append(registration)
            keys = FetchKeys("podcasts", ended[1].uid)
            look = await RecordReader(manager.connection, settings).look(keys, 0)
    finally:
        worker.kill()
        worker.communicate(timeout=10)

    reasons = [registration.failure_reason for registration in ended]
    assert reasons == ["", "quota-exceeded", ""]
    assert look.state.detail.startswith("ENOSPC (No space left on device): ")


def test_a_worker_on_a_read_only_store_does_not_start_and_says_why(
    server: EmbeddedServer, store: Path
) -> None:
    with worker_on(store, server.url, more=READ_ONLY) as worker:
        _, told = worker.communicate(timeout=60)

    assert worker.returncode == 1
    assert "EROFS (Read-only file system): " in told
    assert "Traceback" not in told
