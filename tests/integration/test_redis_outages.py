"""A Redis that goes away under a subscriber: nothing is interrupted, none is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs
from structlog.typing import EventDict

from broker.connection import Connection
from broker.embedded import EmbeddedServer
from broker.manager import BackgroundFetchManager, connect
from broker.queue import queue_key
from broker.settings import Settings
from schemas.errors import Unreachable
from tests.integration.clock import SCOPE
from tests.integration.outcomes import running
from workers.events import BackgroundFetchEvent
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"
PATIENCE = 60.0
LEASE = timedelta(seconds=1.5)


class Server:
    """A Redis of this test's own, always at the same address."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = EmbeddedServer.start(directory, die_with_parent=True)
        self.url = self._running.url

    def kill(self) -> None:
        """Kill it without a chance to tell anybody."""
        os.kill(self._running.pid, signal.SIGKILL)
        self._running.stop()

    def start(self) -> None:
        """Start it again, with what its append-only file has."""
        self._running = EmbeddedServer.start(self._directory, die_with_parent=True)

    def stop(self) -> None:
        """End it for good."""
        self._running.stop()

    def tell(self, *command: str | int) -> object:
        """Send it a command over a connection that ends with it."""
        with redis.Redis.from_url(self.url) as client:
            return client.execute_command(*command)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that may be killed."""
    # A short path: the server's socket has to fit below it.
    with tempfile.TemporaryDirectory(prefix="bg", dir="/tmp") as directory:
        server = Server(Path(directory))
        yield server
        server.stop()


@pytest.fixture
def settings(settings: Settings, server: Server) -> Settings:
    """Settings with that server, and a lease that ends during each outage."""
    return settings.model_copy(update={"redis_url": server.url, "lease": LEASE})


class Handler:
    """A listener that takes as long as it is told to, and remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.began = asyncio.Event()
        self.proceed = asyncio.Event()
        self.finished = 0

    async def handle(self, event: BackgroundFetchEvent) -> None:
        """Take the event."""
        self.calls.append((event.registration.id, event.attempt))
        self.began.set()
        await self.proceed.wait()
        self.finished += 1


@asynccontextmanager
async def at_work(
    settings: Settings,
) -> AsyncIterator[tuple[BackgroundFetchManager, Handler, asyncio.Queue[str]]]:
    """Two processes of a subscriber, one of which has begun to handle ``x``."""
    handler, acked = Handler(), asyncio.Queue[str]()
    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = handler.handle
    async with (
        connect(scope=SCOPE, settings=settings) as manager,
        running(sw, settings) as one,
        running(sw, settings) as other,
    ):
        for outcomes in (one, other):
            outcomes.pass_on("acked", acked)
        await (await manager.fetch("x", URL)).abort()
        async with asyncio.timeout(PATIENCE):
            await handler.began.wait()
        yield manager, handler, acked


async def goes_on(
    manager: BackgroundFetchManager, handler: Handler, acked: asyncio.Queue[str]
) -> None:
    """What was at work is acknowledged, once; so is what comes after."""
    async with asyncio.timeout(PATIENCE):
        assert await acked.get() == "backgroundfetchabort"
        later = await until_answered(manager)
        await acked.get()
        await manager.lookup(later)
    assert sorted(handler.calls) == [("x", 1), ("y", 1)]
    assert handler.finished == 2
    for id in ("x", "y"):
        registration = await manager.find(id)
        assert registration is not None
        assert not registration.records_available


async def until_answered(manager: BackgroundFetchManager) -> str:
    """Abort a fetch ``y``; the test's own connections are cut like all others."""
    while True:
        try:
            registration = await manager.find("y") or await manager.fetch("y", URL)
            await registration.abort()
        except Unreachable:
            await asyncio.sleep(0.1)
        else:
            return registration.uid


@pytest.mark.parametrize("ends", ["while Redis is away", "afterwards"])
async def test_a_redis_that_is_killed_interrupts_no_listener_and_loses_no_ack(
    ends: str, server: Server, settings: Settings
) -> None:
    """Faults 76, 77 and 88; R15, R24; guarantee 4."""
    async with at_work(settings) as (manager, handler, acked):
        await asyncio.to_thread(server.kill)
        if ends == "while Redis is away":
            handler.proceed.set()
        await asyncio.sleep(LEASE.total_seconds())  # the lease ends meanwhile
        await asyncio.to_thread(server.start)
        if ends == "afterwards":
            # Longer than the grace in which nobody takes anything over.
            await asyncio.sleep(2.5 * LEASE.total_seconds())
            handler.proceed.set()

        await goes_on(manager, handler, acked)


async def test_cut_connections_are_made_again_whatever_they_were_for(
    server: Server, settings: Settings
) -> None:
    """Faults 76: those of readers, keepers, pub/sub and all that answers at once."""
    async with at_work(settings) as (manager, handler, acked):
        cut: set[str] = set()
        for _ in range(3):
            cut |= await asyncio.to_thread(cut_all, server)
            await asyncio.sleep(LEASE.total_seconds() / 2)
        handler.proceed.set()

        await goes_on(manager, handler, acked)

    assert {"xreadgroup", "pubsub"} <= cut


def cut_all(server: Server) -> set[str]:
    """Cut every connection to the server; return what they were for."""
    cut = set()
    with redis.Redis.from_url(server.url) as client:
        own = str(client.client_id())
        for row in client.client_list():
            if row["id"] != own:
                cut.add("pubsub" if "P" in row["flags"] else row["cmd"])
                client.execute_command("CLIENT", "KILL", "ID", row["id"])
    return cut


async def test_a_server_that_becomes_a_replica_is_waited_for(
    server: Server, settings: Settings
) -> None:
    """Fail-over: READONLY, and UNBLOCKED for a command that was waiting, mean away."""
    async with at_work(settings) as (manager, handler, acked):
        await asyncio.to_thread(server.tell, "REPLICAOF", "127.0.0.1", "1")
        handler.proceed.set()
        await asyncio.sleep(2 * LEASE.total_seconds())
        await asyncio.to_thread(server.tell, "REPLICAOF", "NO", "ONE")

        await goes_on(manager, handler, acked)


async def test_after_readonly_the_next_command_takes_a_new_connection(
    server: Server,
) -> None:
    """The address may be another server's by now."""
    connection = Connection(server.url)
    try:
        before = await connection.ask("CLIENT", "ID")
        await asyncio.to_thread(server.tell, "REPLICAOF", "127.0.0.1", "1")

        with pytest.raises(Unreachable, match="read-only replica"):
            await connection.ask("SET", "key", "value")

        assert await connection.ask("CLIENT", "ID") != before
    finally:
        await connection.aclose()


async def test_progress_waits_for_a_redis_that_is_away_and_ends_with_the_outcome(
    server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults 76 and 77: the hash is read in vain several times meanwhile."""
    monkeypatch.setattr("broker.live_state.REREAD_SECONDS", 0.05)
    async with (
        connect(scope=SCOPE, settings=settings) as manager,
        connect(scope=SCOPE, settings=settings) as elsewhere,
    ):
        registration = await manager.fetch("x", URL)
        progress = registration.progress()
        await anext(progress)
        following = asyncio.ensure_future(anext(progress))
        await asyncio.to_thread(server.kill)
        for _ in range(3):
            with pytest.raises(Unreachable):
                await registration.refresh()

        await asyncio.to_thread(server.start)
        other = await elsewhere.find("x")
        assert other is not None
        await other.abort()

        async with asyncio.timeout(PATIENCE):
            assert (await following).failure_reason == "aborted"
            assert [rest async for rest in progress] == []


async def test_a_redis_without_room_ends_no_process(
    server: Server, settings: Settings
) -> None:
    """Faults 70: what needs room waits for it, and what frees it goes on."""
    handler = Handler()
    handler.proceed.set()
    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = handler.handle
    with capture_logs() as logged:
        async with (
            connect(scope=SCOPE, settings=settings) as manager,
            running(sw, settings) as outcomes,
        ):
            registration = await manager.fetch("x", URL)
            # Its job is lost, so that the reclaimer has one to enqueue.
            await asyncio.to_thread(server.tell, "DEL", queue_key("auto"))
            await asyncio.to_thread(server.tell, "CONFIG", "SET", "maxmemory", 1)
            waits = await told(logged, "reclaimer_waits")
            await registration.abort()
            acked = await outcomes.until("acked")

    assert "maxmemory" in waits
    assert acked[2] == 1


async def told(logged: list[EventDict], event: str) -> str:
    """Wait until an error is logged as this event."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if found := [row["error"] for row in logged if row["event"] == event]:
                return str(found[0])
            await asyncio.sleep(0.05)
