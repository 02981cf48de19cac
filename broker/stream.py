"""A subscriber's deliveries: begin, extend, acknowledge, give up (R10, R14 to R20)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from redis.exceptions import ResponseError

from broker.connection import Connection
from broker.deliveries import DeliveryName
from broker.holding import Held, Nack, ack, extension, nack
from broker.inbox import Inbox, Start
from broker.keys import FetchKeys
from broker.settings import Settings, milliseconds
from broker.steps import Steps
from broker.together import Answer, Item, Send, Together
from schemas.errors import InvalidMessage
from schemas.events import EventMessage
from schemas.fetches import FetchState
from schemas.filters import EVERYTHING, EventFilter

AT_ONCE = 64
"""Deliveries in one call: a script's work is bounded (R22)."""


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
            _or_one_by_one(self._begin_all), AT_ONCE, "begins"
        )
        self._acks: Together[Begun, bool] = Together(
            _or_one_by_one(self._ack_all), AT_ONCE, "acks"
        )

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
            _begun(delivery, nonce, answer)
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


def _begun(
    delivery: Delivery, nonce: str, answer: list[Any]
) -> Begun | Refused | InvalidMessage:
    if answer[0] != b"ok":
        return Refused(answer[0].decode())
    _, attempt, failures, fields = answer
    state = delivery.message.registration
    if fields:
        named = dict(zip(fields[::2], fields[1::2], strict=True))
        try:
            state = FetchState.from_hash(named)
        except InvalidMessage as error:  # it concerns this one alone
            return error
    return Begun(delivery, nonce, attempt, failures, state)


def _or_one_by_one(send: Send[Item, Answer]) -> Send[Item, Answer]:
    """What Redis refuses of many is sent one by one: the others are not to suffer."""

    async def sent(items: Sequence[Item]) -> Sequence[Answer | Exception]:
        try:
            return await send(items)
        except ResponseError as error:
            if len(items) == 1:
                return [error]
        return [answer for item in items for answer in await sent([item])]

    return sent


def new_nonce() -> str:
    """What nobody else has: a holder's half of a fence (R2)."""
    return secrets.token_hex(8)
