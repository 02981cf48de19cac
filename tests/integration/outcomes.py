"""A subscriber's process that runs beside a test, which hears what became of what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broker.deliveries import Begun
from broker.settings import Settings
from workers.runtime import Runtime
from workers.service_worker import ServiceWorker


class Outcomes:
    """What became of each delivery, in order, and a way to wait for one."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[tuple[str, str, int]] = asyncio.Queue()
        self._onward: dict[str, asyncio.Queue[str]] = {}

    def pass_on(self, outcome: str, types: asyncio.Queue[str]) -> None:
        """Put the event's type there too, whenever this is the outcome."""
        self._onward[outcome] = types

    def observe(self, outcome: str, begun: Begun) -> None:
        """Take an outcome from the runtime."""
        self.seen.put_nowait((outcome, begun.delivery.message.type, begun.attempt))
        if outcome in self._onward:
            self._onward[outcome].put_nowait(begun.delivery.message.type)

    async def until(self, outcome: str) -> tuple[str, str, int]:
        """Wait for the next such outcome."""
        async with asyncio.timeout(15):
            while True:
                seen = await self.seen.get()
                if seen[0] == outcome:
                    return seen


@asynccontextmanager
async def running(
    service_worker: ServiceWorker, settings: Settings
) -> AsyncIterator[Outcomes]:
    outcomes = Outcomes()
    runtime = Runtime(service_worker, settings, observer=outcomes.observe)
    task = asyncio.create_task(runtime.run())
    try:
        yield outcomes
    finally:
        runtime.stop()
        async with asyncio.timeout(15):
            await task
