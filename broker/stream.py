"""A subscriber's deliveries: begin, extend, acknowledge, give up (R10, R14 to R20)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from broker.connection import Connection
from broker.deliveries import (
    Begun,
    Delivery,
    DeliveryName,
    Received,
    Refused,
    begun_of,
    begun_or_refused,
    new_nonce,
)
from broker.holding import Held, Nack, ack, extension, nack
from broker.inbox import Inbox, Start
from broker.keys import FetchKeys
from broker.settings import Settings, milliseconds
from broker.steps import Steps
from broker.together import Together, or_one_by_one
from schemas.errors import InvalidMessage
from schemas.events import EventMessage
from schemas.filters import EVERYTHING, EventFilter

AT_ONCE = 64
"""Deliveries in one call: a script's work is bounded (R22)."""


class Subscription(Inbox):
    """One process's share of a subscriber, with what becomes of its deliveries.

    What many tasks begin or acknowledge at the same time is one call.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        scope: str,
        subscriber: str,
        *,
        takes: EventFilter = EVERYTHING,
        start: Start = "new",
        consumer: str | None = None,
    ) -> None:
        super().__init__(
            *(connection, settings, scope, subscriber),
            takes=takes,
            start=start,
            consumer=consumer,
        )
        self._begins: Together[tuple[Delivery, str], Begun | Refused] = Together(
            or_one_by_one(self._begin_all), AT_ONCE, "begins"
        )
        self._acks: Together[Begun, bool] = Together(
            or_one_by_one(self._ack_all), AT_ONCE, "acks"
        )

    async def receive(self, count: int, block: timedelta) -> Received:
        """Be handed at most ``count`` new events, and begin them; wait for the first.

        Empty after ``block``, or before. With 0, only say that the last ones came.
        What a lost answer had begun comes with the next one (R20).

        Raises:
            Unreachable: Redis does not answer, or has lost the group.
        """
        handed = await self.take(count, block)
        received = Received([], [], handed.nonce)
        for entry, message, *right in handed.rows:
            name = entry.decode()
            try:
                received.begun.append(
                    self._received(name, message, handed.nonce, right)
                )
            except InvalidMessage:
                received.rows.append((name, message))
        return received

    def _received(
        self, entry: str, message: bytes, nonce: str, right: list[Any]
    ) -> Begun:
        if not right:
            raise InvalidMessage("not of this release")
        delivery = Delivery(entry, EventMessage.decode(message), self.subscriber)
        return begun_of(delivery, nonce, *right)

    async def begin(
        self, delivery: Delivery, nonce: str | None = None
    ) -> Begun | Refused:
        """Take the right to handle a delivery, or tell why not.

        After a lost answer the same ``nonce`` gets the same right.
        """
        return await self._begins.ask((delivery, nonce or new_nonce()))

    async def _begin_all(
        self, wanted: Sequence[tuple[Delivery, str]]
    ) -> list[Begun | Refused | Exception]:
        keys, arguments = self._name(wanted[0][0]).context(self._settings)
        keys += [self._scope.subscribers, self._keys.state]
        arguments += [self.consumer, milliseconds(self._settings.lease)]
        for delivery, nonce in wanted:
            keys += self._keys_of(delivery)
            message = delivery.message
            arguments += [message.event, delivery.member, nonce]
            arguments.append(message.registration.version)
        answers = await self._connection.run("begin", keys, arguments)
        return [
            begun_or_refused(delivery, nonce, answer)
            for (delivery, nonce), answer in zip(wanted, answers, strict=True)
        ]

    def steps(self, begun: Begun) -> Steps:
        """What the handler of a delivery has done, in all attempts."""
        name = self._name(begun.delivery)
        return Steps(self._connection, self._settings, name, begun.nonce)

    async def hand_back(
        self, delivery: Delivery, nonce: str, delay: timedelta = timedelta(0)
    ) -> Nack:
        """Give up a right that this process has, or may have; no failure (R20)."""
        name = self._name(delivery)
        return await self._nack(name, nonce, False, delay, "handed back")

    async def leave(self) -> None:
        """Hand back what this process has not handled; nobody else waits for it (R20).

        Raises:
            Unreachable: Redis does not answer. Then its leases end, which counts for
                nothing.
        """
        nonce = self._handover.unanswered
        if nonce is not None:
            await self._handover.aclose()
            for entry, message in await self.pending():
                with suppress(InvalidMessage):
                    decoded = EventMessage.decode(message)
                    await self.hand_back(
                        Delivery(entry, decoded, self.subscriber), nonce
                    )
        await self.bury(self.consumer, leaving=True)

    async def ack(self, begun: Begun) -> bool:
        """Acknowledge: all promises have settled. False if not held here any more."""
        return await self._acks.ask(begun)

    async def _ack_all(self, settled: Sequence[Begun]) -> list[bool]:
        held = [self._held(begun) for begun in settled]
        return await ack(self._connection, self._settings, held)

    async def nack(
        self, begun: Begun, *, failed: bool, delay: timedelta, reason: str
    ) -> Nack:
        """End an attempt without acknowledgement; only failures count (R20)."""
        name = self._name(begun.delivery)
        return await self._nack(name, begun.nonce, failed, delay, reason)

    async def expire(self, delivery: str) -> Nack:
        """Take a delivery from a holder whose lease has ended: its process died."""
        name = DeliveryName.of(self.scope, self.subscriber, delivery)
        return await self._nack(name, "", True, timedelta(0), "its process died")

    async def _nack(
        self,
        name: DeliveryName,
        nonce: str,
        failed: bool,
        delay: timedelta,
        reason: str,
    ) -> Nack:
        return await nack(
            self._connection,
            self._settings,
            Held(name, nonce),
            failed=failed,
            delay=delay,
            reason=reason,
        )

    def extension(self, held: Iterable[Begun]) -> tuple[list[str], list[str | int]]:
        """Keys and arguments of one ``extend`` for all that this process holds."""
        lease = self._settings.lease
        rights = map(self._held, held)
        return extension(self.scope, self.subscriber, self.consumer, lease, rights)

    def _held(self, begun: Begun) -> Held:
        return Held(self._name(begun.delivery), begun.nonce)

    def _keys_of(self, delivery: Delivery) -> tuple[str, str]:
        keys = FetchKeys(self.scope, delivery.uid)
        return keys.fetch, keys.events

    def _name(self, delivery: Delivery) -> DeliveryName:
        return DeliveryName(
            self.scope,
            self.subscriber,
            delivery.entry,
            delivery.uid,
            delivery.message.event,
        )
