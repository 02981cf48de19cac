"""Keeping deliveries: every lease of a process is extended while its handlers wait."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from broker.deliveries import Begun
from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from tests.integration.clock import SCOPE
from tests.integration.delivering import hand_over
from tests.integration.outcomes import running
from workers.dispatch import Dispatcher
from workers.events import BackgroundFetchEvent
from workers.service_worker import ServiceWorker

NUMBER = 5


class Observed:
    """A subscriber's process without a keeper, and what came of each attempt."""

    def __init__(self, sw: ServiceWorker, manager: BackgroundFetchManager) -> None:
        self.seen: list[tuple[str, int]] = []
        self.begun: list[Begun] = []
        settings = manager.settings
        self._inbox = Subscription(manager.connection, settings, SCOPE, sw.name)
        self.dispatcher = Dispatcher(sw, manager, self._inbox, settings, self._observe)

    def _observe(self, outcome: str, begun: Begun) -> None:
        self.seen.append((outcome, begun.attempt))
        if outcome == "began":
            self.begun.append(begun)

    async def abort(self, manager: BackgroundFetchManager) -> tuple[str, bytes]:
        """Join, and read the event of a fetch that was aborted."""
        await self._inbox.join()
        await (await manager.fetch("x", "https://cdn.example/1")).abort()
        [entry] = await hand_over(self._inbox, 1)
        return entry

    async def again(self) -> tuple[str, bytes]:
        """What is due after a failure."""
        async with asyncio.timeout(20):
            while not (rows := await self._inbox.collect(1)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return rows[0]

    async def extend(self, manager: BackgroundFetchManager) -> None:
        """Do what a keeper does that was held up since the first attempt began."""
        keys, arguments = self._inbox.extension(self.begun[:1])
        assert await manager.connection.run("extend", keys, arguments)
        self.dispatcher.lose(self.begun[0])

    async def aclose(self) -> None:
        """Leave."""
        await self._inbox.aclose()


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


async def test_what_is_acknowledged_while_its_lease_is_extended_is_not_lost(
    manager: BackgroundFetchManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R20: the keeper asks about what was held, and Redis has settled it already."""
    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = lambda event: None
    process = Observed(sw, manager)
    ack = Subscription.ack

    async def acknowledged_first(own: Subscription, begun: Begun) -> bool:
        acked = await ack(own, begun)
        await process.extend(manager)
        return acked

    monkeypatch.setattr(Subscription, "ack", acknowledged_first)

    with capture_logs() as logs:
        await process.dispatcher.handle(*await process.abort(manager))
    await process.aclose()

    assert process.seen == [("began", 1), ("acked", 1)]
    assert [it["event"] for it in logs if "lost" in it["event"]] == []


async def test_the_next_attempt_is_not_lost_with_the_one_before(
    manager: BackgroundFetchManager,
) -> None:
    """R10: a delivery that failed, and is held again, by the same process."""
    sw, begun, may_end = ServiceWorker(SCOPE), asyncio.Event(), asyncio.Event()

    @sw.on("backgroundfetchabort")
    async def aborted(event: BackgroundFetchEvent) -> None:
        if event.attempt == 1:
            raise ValueError
        begun.set()
        await may_end.wait()

    process = Observed(sw, manager)
    await process.dispatcher.handle(*await process.abort(manager))
    task = asyncio.create_task(process.dispatcher.handle(*await process.again()))
    async with asyncio.timeout(20):
        await begun.wait()

    await process.extend(manager)
    may_end.set()
    await task
    await process.aclose()

    assert process.seen == [("began", 1), ("failed", 1), ("began", 2), ("acked", 2)]


async def leases(manager: BackgroundFetchManager) -> dict[bytes, float]:
    """When the lease of each delivery ends."""
    key = ScopeKeys(SCOPE).subscriber("default").leases
    rows = await manager.connection.ask("ZRANGE", key, 0, -1, "WITHSCORES")
    return {delivery: float(end) for delivery, end in rows}


def rose(before: dict[bytes, float], after: dict[bytes, float]) -> bool:
    """Whether every lease ends later."""
    return all(after.get(delivery, 0) > end for delivery, end in before.items())
