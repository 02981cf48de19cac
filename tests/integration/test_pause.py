"""Pausing a subscriber: nothing new begins, what runs goes on (R20)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest

from broker.deliveries import Begun, Delivery, Refused
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.events import EventMessage
from schemas.filters import EventFilter
from tests.integration.clock import SCOPE, Clock
from tests.integration.delivering import hand_over
from workers import BackgroundFetchEvent, Runtime, ServiceWorker

NOW = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
URL = "https://cdn.example/1"
Process = Callable[..., Awaitable[Subscription]]


@pytest.fixture
async def process(
    manager: BackgroundFetchManager, settings: Settings
) -> AsyncIterator[Process]:
    """Start one more process of a subscriber."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Subscription:
            subscription = Subscription(
                manager.connection, settings, SCOPE, "a", **options
            )
            await subscription.join()
            stack.push_async_callback(subscription.aclose)
            return subscription

        yield start


async def deliveries(
    rows: Awaitable[list[tuple[str, bytes]]],
) -> list[Delivery]:
    return [
        Delivery(entry, EventMessage.decode(message), "a")
        for entry, message in await rows
    ]


async def test_a_paused_subscriber_begins_nothing_and_lags(
    manager: BackgroundFetchManager,
    process: Process,
    subscribers: Subscribers,
    clock: Clock,
) -> None:
    """What runs may still be acknowledged, and what fails waits for the end."""
    sub = await process()
    runs = await manager.fetch("runs", URL)
    await runs.abort()
    await (await manager.fetch("fails", URL)).abort()
    await (await manager.fetch("was read", URL)).abort()
    first, second, third = await deliveries(hand_over(sub, 10))
    running, failing = await sub.begin(first), await sub.begin(second)
    assert isinstance(running, Begun)
    assert isinstance(failing, Begun)
    assert await subscribers.pause("a")
    assert await subscribers.pause("a")

    refused = await sub.begin(third)
    await sub.nack(failing, failed=True, delay=NOW, reason="ValueError: no")
    again = await sub.begin(first)
    acked = await sub.ack(running)
    await clock.age_deliveries("a", HOUR)
    collected = await sub.collect(10)
    await (await manager.fetch("unread", URL)).abort()
    read = await hand_over(sub, 10)
    [look] = await subscribers.look()

    assert (refused, again, acked) == (Refused.PAUSED, Refused.HELD, True)
    assert (collected, read) == ([], [])
    assert (look.state, look.lag, look.pending, look.waiting) == ("paused", 1, 0, 2)
    assert await runs.settled(timedelta(seconds=5)) == {"a": "acked"}

    assert await subscribers.resume("a")
    back = await deliveries(sub.collect(10))
    more = await deliveries(hand_over(sub, 10))
    begun = [await sub.begin(delivery) for delivery in [*back, *more]]

    ids = [delivery.message.registration.id for delivery in [*back, *more]]
    assert sorted(ids) == ["fails", "unread", "was read"]
    assert all(isinstance(each, Begun) for each in begun)


async def test_a_filtered_reader_stops_and_goes_on_too(
    manager: BackgroundFetchManager, process: Process, subscribers: Subscribers
) -> None:
    sub = await process(takes=EventFilter.of(["abort"]))
    await subscribers.pause("a")
    await (await manager.fetch("x", URL)).abort()

    paused = [await hand_over(sub, 10), await hand_over(sub, 10)]
    await subscribers.resume("a")
    await sub.collect(10)
    resumed = await hand_over(sub, 10)

    assert paused == [[], []]
    assert len(resumed) == 1


async def test_there_is_nobody_to_pause(subscribers: Subscribers) -> None:
    assert await subscribers.pause("nobody") is False
    assert await subscribers.resume("nobody") is False


async def test_a_running_service_worker_pauses_and_resumes(
    manager: BackgroundFetchManager, settings: Settings, subscribers: Subscribers
) -> None:
    """What it takes is told by the service worker: type, pattern and start."""
    got: asyncio.Queue[str] = asyncio.Queue()
    worker = ServiceWorker(SCOPE, name="a", types=["backgroundfetchclick"], ids="ep-*")

    @worker.on("backgroundfetchclick")
    async def clicked(event: BackgroundFetchEvent) -> None:
        await got.put(event.registration.id)

    async def stands(state: str, *, unsettled: int) -> None:
        """Wait until the subscriber has so many events that nobody works on."""
        while True:
            for look in await subscribers.look():
                counts = (look.lag + look.waiting, look.pending)
                if counts == (unsettled, 0) and look.state == state:
                    return
            await asyncio.sleep(0.01)

    runtime = Runtime(worker, settings)
    running = asyncio.create_task(runtime.run())
    async with asyncio.timeout(60):
        await stands("active", unsettled=0)
        for id in ("trailer", "ep-1"):
            await (await manager.fetch(id, URL)).click()
        first = await got.get()
        await subscribers.pause("a")
        await stands("paused", unsettled=0)
        await (await manager.fetch("ep-2", URL)).click()
        await stands("paused", unsettled=1)
        nothing = got.empty()
        await subscribers.resume("a")
        second = await got.get()
        runtime.stop()
        await running
    [look] = await subscribers.look()

    assert (first, nothing, second) == ("ep-1", True, "ep-2")
    assert look.excluded == 1
