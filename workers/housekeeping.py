"""What each process of a subscriber does for all: redelivery and burial (R20)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta

import structlog

from broker.agenda import Agenda
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import Failure, QuotaExceeded
from workers.timekeeping import keeping_time

log = structlog.get_logger()

COLLECT_SECONDS = 0.25
Rows = list[tuple[str, bytes]]


class Housekeeping:
    """Collects deliveries that are due, and takes over those of dead processes."""

    def __init__(
        self,
        manager: BackgroundFetchManager,
        subscription: Subscription,
        settings: Settings,
    ) -> None:
        self._subscription = subscription
        self._agenda = Agenda(manager.connection, settings)
        self._settings = settings
        # Grace is per subscriber: another's passes say nothing about ours (R15).
        self._name = f"{subscription.scope}/{subscription.subscriber}/"

    async def run(
        self,
        entries: Collection[str],
        room: Callable[[], int],
        admit: Callable[[Rows], object],
    ) -> None:
        """Until cancelled, hand due deliveries that have ``room`` to ``admit``.

        ``entries`` are those at work here.
        """
        async with keeping_time(self._agenda, self._settings, name=self._name):
            await self._keep_house(entries, room, admit)

    async def forget(self) -> None:
        """Leave nothing behind of a subscriber that was removed (BF-LIFE-02).

        Raises:
            Unreachable: Redis does not answer.
        """
        await self._agenda.forget_passes(name=self._name)

    async def _grace(self) -> timedelta:
        return await self._agenda.grace(self._settings.lease, name=self._name)

    async def _keep_house(
        self,
        entries: Collection[str],
        room: Callable[[], int],
        admit: Callable[[Rows], object],
    ) -> None:
        loop = asyncio.get_running_loop()
        next_pass = loop.time()
        while True:
            try:
                if loop.time() >= next_pass:
                    await self.make_pass()
                    admit(await self._subscription.stranded(entries))
                    next_pass = loop.time() + self._settings.lease.total_seconds() / 4
                admit(await self._subscription.collect(room()))
            except (Failure, QuotaExceeded) as error:
                log.debug("housekeeping_waits", error=str(error))
            await asyncio.sleep(COLLECT_SECONDS)

    async def make_pass(self) -> None:
        """Take over what dead processes held, unless leases could not be renewed (R15).

        Raises:
            Unreachable: Redis does not answer.
        """
        if not await self._grace():
            await take_over(self._subscription)


async def take_over(subscription: Subscription) -> None:
    """Let what dead processes of a subscriber held come again; forget those (R20).

    Raises:
        Unreachable: Redis does not answer.
    """
    for delivery in await subscription.expired():
        verdict = await subscription.expire(delivery)
        log.info("delivery_taken_over", delivery=delivery, verdict=str(verdict))
    for consumer in await subscription.dead_consumers():
        moved = await subscription.bury(consumer)
        log.info("consumer_buried", consumer=consumer, deliveries=moved)
