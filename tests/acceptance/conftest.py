"""What acceptance tests share: a machine of their own, and an origin to fetch from."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from broker.embedded import EmbeddedServer
from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from tests.acceptance.fleet import SCOPE, Fleet
from tests.acceptance.machine import Machine
from workers.demo.origin import Origin


class HostedOrigin:
    """An origin on an event loop of its own, for tests that wait for processes."""

    def __init__(self, portal: BlockingPortal, origin: Origin) -> None:
        self._portal = portal
        self.origin = origin

    def gate(self) -> asyncio.Event:
        """Make an event for ``hold``."""
        return asyncio.Event()

    def open(self, gate: asyncio.Event) -> None:
        """Let everything go on that the event holds."""
        self._portal.call(gate.set)


@pytest.fixture
def hosted() -> Iterator[HostedOrigin]:
    """An origin on loopback."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(Origin()) as origin,
    ):
        yield HostedOrigin(portal, origin)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine without a Redis of its own, whose workers may reach loopback.

    Nothing that its commands start may be left at the end.
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("looks for processes in /proc")
    # A short path: the server's socket has to fit below it.
    with tempfile.TemporaryDirectory(prefix="bg", dir="/tmp") as home:
        machine = Machine(Path(home), {"BGFETCH_ALLOW_NETWORKS": "loopback"})
        yield machine
        left = machine.processes()
        for process in left:
            os.kill(process, signal.SIGKILL)
        assert machine.all_end()
        assert not left, "processes were left running"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server of this test's own."""
    with EmbeddedServer.start(tmp_path / "redis", die_with_parent=True) as running:
        yield running


@pytest.fixture
def fleet(server: EmbeddedServer, tmp_path: Path) -> Iterator[Fleet]:
    """Processes on that server and one store."""
    fleet = Fleet(server.url, tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
async def manager(
    server: EmbeddedServer, tmp_path: Path
) -> AsyncIterator[BackgroundFetchManager]:
    """The fetches of the fleet's scope."""
    settings = Settings(
        redis_url=server.url,
        store=tmp_path / "store",
        allow_networks=AddressPolicy.parse("loopback"),
    )
    async with connect(scope=SCOPE, settings=settings) as opened:
        yield opened


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    """An origin on the test's own event loop."""
    async with Origin() as running:
        yield running
