"""Connections to Redis that are slow, thin or half open, for processes of each kind."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broker.deliveries import Begun, Delivery
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from schemas.events import EventMessage
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import hand_over
from tests.integration.outcomes import running
from tests.torture.fleet import forging
from tests.torture.relay import Relay
from workers.demo.origin import Origin
from workers.service_worker import ServiceWorker

PATIENCE = 100.0


def slow(relay: Relay) -> None:
    relay.latency = 0.25


def thin(relay: Relay) -> None:
    relay.rate = 10_000


TOXICS = {"500 ms": slow, "10 kB/s": thin, "half open": Relay.forsake}


@pytest.fixture
async def relay(redis_url: str) -> AsyncIterator[Relay]:
    with tempfile.TemporaryDirectory(prefix="bg", dir="/tmp") as directory:
        server = Path(urlsplit(redis_url).path)
        async with Relay(Path(directory, "relay.sock"), server) as made:
            yield made


@pytest.fixture
def behind(settings: Settings, relay: Relay) -> Settings:
    """The settings of a process whose way to Redis is the relay."""
    return settings.model_copy(update={"redis_url": relay.url})


@pytest.mark.parametrize("toxic", TOXICS.values(), ids=TOXICS)
async def test_a_subscriber_goes_on_over_a_connection_that_is(
    toxic: Callable[[Relay], None],
    relay: Relay,
    behind: Settings,
    manager: BackgroundFetchManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faults row 76: it takes its time, and nothing is handled twice."""
    monkeypatch.setattr("broker.connection.ANSWER_SECONDS", 2.0)
    seen: list[tuple[str, int]] = []
    acked = asyncio.Queue[str]()
    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = lambda event: seen.append(
        (event.registration.id, event.attempt)
    )
    async with running(sw, behind) as outcomes, asyncio.timeout(PATIENCE):
        outcomes.pass_on("acked", acked)
        await (await manager.fetch("before", "https://cdn.example/1")).abort()
        await acked.get()
        toxic(relay)

        await (await manager.fetch("after", "https://cdn.example/1")).abort()
        await acked.get()
        relay.latency, relay.rate = 0.0, 0

    assert seen == [("before", 1), ("after", 1)]


async def test_a_process_far_from_redis_takes_over_what_a_dead_one_held(
    relay: Relay, behind: Settings, manager: BackgroundFetchManager
) -> None:
    """Faults row 76, R15, guarantee 4: a pass that takes long is no gap in time."""
    lease = timedelta(seconds=2)
    dead = Subscription(manager.connection, manager.settings, SCOPE, "default")
    await dead.join()
    await (await manager.fetch("x", "https://cdn.example/1")).abort()
    [(entry, message)] = await hand_over(dead)
    begun = await dead.begin(Delivery(entry, EventMessage.decode(message), "default"))
    await dead.aclose()
    assert isinstance(begun, Begun)
    relay.latency = 0.1  # each of its calls takes twice that, and a pass makes many
    attempts = asyncio.Queue[int]()
    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = lambda event: attempts.put_nowait(event.attempt)

    async with running(sw, behind.model_copy(update={"lease": lease})):
        await Clock(manager).age_deliveries("default", timedelta(minutes=1))
        async with asyncio.timeout(PATIENCE):
            assert await attempts.get() == 2
        relay.latency = 0.0


@asynccontextmanager
async def working(settings: Settings, directory: Path) -> AsyncIterator[None]:
    """A worker in a process of its own."""
    variables = {
        "BGFETCH_REDIS_URL": settings.redis_url or "",
        "BGFETCH_STORE": os.fspath(settings.store or ""),
        "BGFETCH_ALLOW_NETWORKS": "loopback",
        "BGFETCH_DURABILITY": "none",
    }
    async with forging(directory / "log") as forge:
        process = await forge.start(variables)
        yield
        os.kill(process, signal.SIGKILL)
        await forge.gone(process)


@pytest.mark.parametrize("toxic", TOXICS.values(), ids=TOXICS)
async def test_a_worker_goes_on_over_a_connection_that_is(
    toxic: Callable[[Relay], None],
    relay: Relay,
    behind: Settings,
    manager: BackgroundFetchManager,
    tmp_path: Path,
) -> None:
    """Faults row 76: it takes its time, and what it downloads is whole."""
    async with (
        Origin() as origin,
        working(behind, tmp_path),
        asyncio.timeout(PATIENCE),
    ):
        origin.add("/file", b"whole" * 1000)
        url = origin.url("/file")
        await until_ended(manager, "before", url)
        toxic(relay)

        await until_ended(manager, "after", url)

    found = await manager.find("after")
    assert found is not None
    record = await found.match(url)
    assert record is not None
    assert await (await record.response_ready).read() == b"whole" * 1000


async def until_ended(manager: BackgroundFetchManager, id: str, url: str) -> None:
    registration = await manager.fetch(id, url)
    async for _ in registration.progress():
        pass
    assert registration.result == "success"
