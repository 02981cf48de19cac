"""Deliveries in tests, by hand: what a subscriber's process reads and begins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from broker.deliveries import Begun, Delivery
from broker.stream import Subscription
from schemas.events import EventMessage

NOW = timedelta(milliseconds=1)
"""Time to wait for what is there already."""
Process = Callable[..., Awaitable[Subscription]]
"""Starts one more process of a subscriber, by name."""


def deliveries(process: Subscription, rows: list[tuple[str, bytes]]) -> list[Delivery]:
    """Entries of the stream as deliveries to a process."""
    return [
        Delivery(entry, EventMessage.decode(message), process.subscriber)
        for entry, message in rows
    ]


async def hand_over(process: Subscription, count: int = 10) -> list[tuple[str, bytes]]:
    """What is new, by its entry; nothing is begun."""
    return await process.glance(count)


async def read(process: Subscription, count: int = 10) -> list[Delivery]:
    """What is new."""
    return deliveries(process, await hand_over(process, count))


async def collect(process: Subscription) -> list[Delivery]:
    """What is due again."""
    return deliveries(process, await process.collect(10))


async def begin(process: Subscription, delivery: Delivery) -> Begun:
    """Begin a delivery that may begin."""
    begun = await process.begin(delivery)
    assert isinstance(begun, Begun)
    return begun
