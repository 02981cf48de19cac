"""One call that takes deliveries for a caller elsewhere (R10, R20)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from broker.connection import Connection
from broker.deliveries import Begun, Delivery, DeliveryName, Rows
from broker.holding import Held, extend
from broker.quarantine import Quarantine
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import Failure, InvalidMessage, NewerMessage
from schemas.events import EventMessage

log = structlog.get_logger()

NEWER_LEASES = 3
"""Lease times that an event for a later release waits for another process."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A delivery in the hands of a caller, until its lease ends."""

    begun: Begun
    token: str
    """Its fence: who sends it back may acknowledge, extend and refuse."""
    until: datetime
    """When the lease ends, by Redis's clock."""


class Pull:
    """One call that pulls, however often it looks."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        inbox: Subscription,
        nonce: str,
        lease: timedelta,
        *,
        again: bool,
    ) -> None:
        """``again``: it may be a repetition, after an answer that was lost."""
        self._connection = connection
        self._settings = settings
        self._inbox = inbox
        self._nonce = nonce
        self._lease = lease
        self._again = again
        self._quarantine = Quarantine(
            connection, settings, inbox.scope, inbox.subscriber
        )

    async def take(self, most: int) -> list[Pulled]:
        """Take what there is now, at most so many deliveries.

        Raises:
            Unreachable: Redis does not answer. What was taken comes again.
        """
        # What is read and not begun, when this process dies, is others' after that.
        await self._keep(self._settings.lease, ())
        rows = await self._inbox.pending() if self._again else []
        if not rows:
            rows = await self._inbox.collect(most)
        if len(rows) < most:
            rows += await self._inbox.glance(most - len(rows))
        begun = await self._begin(rows)
        if not begun:
            return []
        lost = await self._keep(self._lease, [self._held(one) for one in begun])
        until = await self._deadline()
        return [
            Pulled(one, f"{one.delivery.member}/{self._nonce}", until)
            for one in begun
            if one.delivery.member.encode() not in lost
        ]

    async def _keep(self, lease: timedelta, held: Sequence[Held]) -> list[bytes]:
        return await extend(
            *(self._connection, self._inbox.scope, self._inbox.subscriber),
            consumer=self._inbox.consumer,
            lease=lease,
            held=held,
        )

    async def _deadline(self) -> datetime:
        now = await self._connection.now()
        return datetime.fromtimestamp(now / 1000, UTC) + self._lease

    async def give_back(self, taken: Iterable[Pulled]) -> None:
        """Hand back what nobody is there to get; no failure (R20)."""
        for one in taken:
            await self._inbox.hand_back(one.begun.delivery, self._nonce)

    async def aclose(self) -> None:
        """Leave to others what was read and not begun."""
        with suppress(Failure):  # its place ends by itself
            await self._inbox.bury(self._inbox.consumer, leaving=True)

    def _held(self, begun: Begun) -> Held:
        delivery = begun.delivery
        scope, subscriber = self._inbox.scope, self._inbox.subscriber
        return Held(DeliveryName.of(scope, subscriber, delivery.member), self._nonce)

    async def _begin(self, rows: Rows) -> list[Begun]:
        readable = [await self._read(entry, message) for entry, message in rows]
        begun = await asyncio.gather(
            *(self._begin_one(delivery) for delivery in readable if delivery)
        )
        return [one for one in begun if one is not None]

    async def _begin_one(self, delivery: Delivery) -> Begun | None:
        try:
            begun = await self._inbox.begin(delivery, self._nonce)
        except InvalidMessage as error:  # the registration, of a later release
            log.warning("event_for_later_release", error=str(error))
            await self._inbox.hand_back(delivery, self._nonce, self._newer_delay)
            return None
        return begun if isinstance(begun, Begun) else None

    async def _read(self, entry: str, message: bytes) -> Delivery | None:
        try:
            decoded = EventMessage.decode(message)
        except NewerMessage as error:
            if not await self._quarantine.hand_back(entry, self._newer_delay):
                await self._quarantine.put_aside(entry, str(error))
            return None
        except InvalidMessage as error:
            log.error("event_unreadable", entry=entry, error=str(error))
            await self._quarantine.put_aside(entry, str(error))
            return None
        return Delivery(entry, decoded, self._inbox.subscriber)

    @property
    def _newer_delay(self) -> timedelta:
        return NEWER_LEASES * self._lease
