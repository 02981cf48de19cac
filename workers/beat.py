"""The heartbeat of a process: its event loop tells that it lives, for health checks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta

from broker.connection import Connection
from broker.processes import Process, Processes
from schemas.errors import Failure


async def beat_for_ever(
    connection: Connection, process: Process, lease: timedelta
) -> None:
    """Beat three times in a lease, until cancelled; then leave."""
    processes = Processes(connection)
    try:
        while True:
            with suppress(Failure):  # while Redis is away nobody can look, either
                await processes.beat(process, lease)
            await asyncio.sleep(lease.total_seconds() / 3)
    finally:
        with suppress(Failure):
            await processes.leave(process)
