"""Keeping deliveries: every lease of a process is extended while its handlers wait."""

from __future__ import annotations

import asyncio

import pytest

from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from tests.integration.clock import SCOPE
from tests.integration.outcomes import running
from workers.events import BackgroundFetchEvent
from workers.service_worker import ServiceWorker

NUMBER = 5


async def test_more_deliveries_than_one_call_extends_are_all_extended(
    manager: BackgroundFetchManager,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R20, R22: in several calls, since a script's work is bounded."""
    monkeypatch.setattr("workers.keeper.AT_ONCE", 2)
    quick = settings.model_copy(update={"lease": settings.lease / 5})
    sw, may_end = ServiceWorker(SCOPE), asyncio.Event()

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        await may_end.wait()

    async with running(sw, quick) as outcomes:
        for number in range(NUMBER):
            fetch = await manager.fetch(f"x-{number}", "https://cdn.example/1")
            await fetch.abort()
        for _ in range(NUMBER):
            await outcomes.until("began")
        first = await leases(manager)
        async with asyncio.timeout(20):
            while True:
                if rose(first, await leases(manager)):
                    break
                await asyncio.sleep(0.05)
        may_end.set()
        for _ in range(NUMBER):
            assert await outcomes.until("acked") == ("acked", "backgroundfetchabort", 1)

    assert len(first) == NUMBER


async def leases(manager: BackgroundFetchManager) -> dict[bytes, float]:
    """When the lease of each delivery ends."""
    key = ScopeKeys(SCOPE).subscriber("default").leases
    rows = await manager.connection.ask("ZRANGE", key, 0, -1, "WITHSCORES")
    return {delivery: float(end) for delivery, end in rows}


def rose(before: dict[bytes, float], after: dict[bytes, float]) -> bool:
    """Whether every lease ends later."""
    return all(after.get(delivery, 0) > end for delivery, end in before.items())
