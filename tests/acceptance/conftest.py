"""What acceptance tests share: a machine of their own, and an origin to fetch from."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

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
