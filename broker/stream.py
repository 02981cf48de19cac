"""A subscriber's deliveries: begin, extend, acknowledge, give up (R10, R14 to R20)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from broker.deliveries import DeliveryName, bounded
from broker.inbox import Inbox
from broker.keys import FetchKeys
from broker.settings import milliseconds
from broker.steps import Steps
from schemas.events import EventMessage
from schemas.fetches import FetchState


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to this subscriber; not begun yet."""

    entry: str
    message: EventMessage
    subscriber: str

    @property
    def uid(self) -> str:
        """The fetch that the event is about."""
        return self.message.registration.uid

    @property
    def member(self) -> str:
        """The name of this delivery in the subscriber's sets."""
        return f"{self.entry}/{self.uid}/{self.message.event}"

    @property
    def delivery_id(self) -> str:
        """The same for every attempt: from fetch, event and subscriber (R14)."""
        return f"{self.uid}/{self.message.event}/{self.subscriber}"


@dataclass(frozen=True, slots=True)
class Begun:
    """A delivery that this process holds, until its lease ends or it is settled."""

    delivery: Delivery
    nonce: str
    attempt: int
    failures: int
    state: FetchState
    """The registration as it was when the delivery began."""


class Refused(StrEnum):
    """Why a delivery does not begin here."""

    WAIT = "wait"
    HELD = "held"
    PAUSED = "paused"
    DONE = "done"


class Nack(StrEnum):
    """What a refused delivery came to."""

    WAITING = "waiting"
    DEAD = "dead"
    STALE = "stale"


class Subscription(Inbox):
    """One process's share of a subscriber, with what becomes of its deliveries."""

    async def begin(
        self, delivery: Delivery, nonce: str | None = None
    ) -> Begun | Refused:
        """Take the right to handle a delivery, or tell why not.

        After a lost answer the same ``nonce`` gets the same right.

        Raises:
            InvalidMessage: it has the right now, but cannot read the registration.
        """
        nonce = nonce or new_nonce()
        keys, arguments = self._name(delivery).context(self._settings)
        reply = await self._connection.run(
            "begin",
            [*keys, self._scope.subscribers, self._keys.state],
            [*arguments, nonce, self.consumer, milliseconds(self._settings.lease)],
        )
        if reply[0] != b"ok":
            return Refused(reply[0].decode())
        fields = dict(zip(reply[3][::2], reply[3][1::2], strict=True))
        state = FetchState.from_hash(fields)
        return Begun(delivery, nonce, reply[1], reply[2], state)

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

    async def ack(self, begun: Begun) -> bool:
        """Acknowledge: all promises have settled. False if not held here any more."""
        keys, arguments = self._name(begun.delivery).context(self._settings)
        return bool(await self._connection.run("ack", keys, [*arguments, begun.nonce]))

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
        keys, arguments = name.context(self._settings)
        verdict = await self._connection.run(
            "nack",
            [*keys, *name.letter_keys()],
            [
                *arguments,
                nonce,
                int(failed),
                milliseconds(delay),
                self._settings.max_deliveries,
                bounded(reason),
            ],
        )
        return Nack(verdict.decode())

    def extension(self, held: Iterable[Begun]) -> tuple[list[str], list[str | int]]:
        """Keys and arguments of one ``extend`` for all that this process holds."""
        held = tuple(held)
        keys = [self._keys.consumers, self._keys.leases]
        keys += [FetchKeys(self.scope, begun.delivery.uid).events for begun in held]
        values = (
            (begun.delivery.message.event, begun.nonce, begun.delivery.member)
            for begun in held
        )
        return keys, [
            self.consumer,
            milliseconds(self._settings.lease),
            self.subscriber,
            *(value for three in values for value in three),
        ]

    def _name(self, delivery: Delivery) -> DeliveryName:
        return DeliveryName(
            self.scope,
            self.subscriber,
            delivery.entry,
            delivery.uid,
            delivery.message.event,
        )


def new_nonce() -> str:
    """What nobody else has: a holder's half of a fence (R2)."""
    return secrets.token_hex(8)
