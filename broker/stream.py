"""A subscriber's side of Redis: join, read, begin, extend, acknowledge (R9 to R20)."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from redis.asyncio import Redis

from broker.connection import Connection
from broker.deliveries import DeliveryName, bounded
from broker.keys import LEAVING, SCOPES, FetchKeys, ScopeKeys
from broker.settings import Settings, milliseconds
from schemas.errors import InvalidState
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
    DONE = "done"


class Nack(StrEnum):
    """What a refused delivery came to."""

    WAITING = "waiting"
    DEAD = "dead"
    STALE = "stale"


class Subscription:
    """One process's share of a subscriber: a consumer with a name of its own (R10)."""

    def __init__(
        self, connection: Connection, settings: Settings, scope: str, subscriber: str
    ) -> None:
        self.scope = scope
        self.subscriber = subscriber
        self.consumer = _process_name()
        self._connection = connection
        self._settings = settings
        self._scope = ScopeKeys(scope)
        self._keys = self._scope.subscriber(subscriber)
        self._reader: Redis = connection.blocking_client()

    async def join(self, *, again: bool = False) -> None:
        """Make sure that the subscriber and its group exist, and this consumer lives.

        The first subscriber of a scope adopts the events that waited for one (R12).
        ``again`` says that this process had joined before.

        Raises:
            InvalidState: the subscriber was removed since this process joined, or is
                being removed now.
        """
        scope = self._scope
        joined = await self._connection.run(
            "join",
            [
                scope.scope_hash,
                scope.subscribers,
                scope.events,
                SCOPES,
                self._keys.consumers,
                LEAVING,
            ],
            [
                self.scope,
                self.subscriber,
                self.consumer,
                milliseconds(self._settings.lease),
                int(again),
                self._keys.member,
            ],
        )
        if joined < 1:
            how = "was removed" if joined == 0 else "is being removed: try again"
            raise InvalidState(
                f"subscriber {self.subscriber!r} of scope {self.scope!r} {how}"
            )

    async def read(self, count: int, block: timedelta) -> list[tuple[str, bytes]]:
        """Wait for new entries: entry id and message. Empty after ``block``."""
        async with self._connection.answering(block):
            reply = await self._reader.xreadgroup(
                self.subscriber,
                self.consumer,
                {self._scope.events: ">"},
                count=count,
                block=milliseconds(block),
            )
        return _entries(reply)

    async def pending(self) -> list[tuple[str, bytes]]:
        """Read again what this consumer was given, for after a lost answer (R20)."""
        async with self._connection.answering():
            reply = await self._reader.xreadgroup(
                self.subscriber, self.consumer, {self._scope.events: "0"}, count=1000
            )
        return _entries(reply)

    async def collect(self, count: int) -> list[tuple[str, bytes]]:
        """Take deliveries whose time has come, at most ``count``."""
        rows = await self._connection.run(
            "collect",
            [self._keys.due, self._scope.events],
            [self.subscriber, self.consumer, count],
        )
        return [
            (entry.decode(), message)
            for entry, message in zip(rows[::2], rows[1::2], strict=True)
        ]

    async def begin(
        self, delivery: Delivery, nonce: str | None = None
    ) -> Begun | Refused:
        """Take the right to handle a delivery, or tell why not.

        After a lost answer the same ``nonce`` gets the same right.
        """
        nonce = nonce or new_nonce()
        keys, arguments = self._name(delivery).context(self._settings)
        reply = await self._connection.run(
            "begin",
            [*keys, self._scope.subscribers],
            [*arguments, nonce, self.consumer, milliseconds(self._settings.lease)],
        )
        if reply[0] != b"ok":
            return Refused(reply[0].decode())
        fields = dict(zip(reply[3][::2], reply[3][1::2], strict=True))
        state = FetchState.from_hash(fields)
        return Begun(delivery, nonce, reply[1], reply[2], state)

    async def hand_back(self, delivery: Delivery, nonce: str) -> Nack:
        """Give up a right that this process has, or may have; no failure (R20)."""
        name = self._name(delivery)
        return await self._nack(name, nonce, False, timedelta(0), "handed back")

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

    async def expired(self) -> list[str]:
        """Deliveries whose holder's lease has ended."""
        return await self._overdue(self._keys.leases)

    async def dead_consumers(self) -> list[str]:
        """Consumers of this subscriber that no longer extend."""
        return await self._overdue(self._keys.consumers)

    async def _overdue(self, key: str) -> list[str]:
        now = await self._connection.now()
        found: list[bytes] = await self._connection.ask(
            "ZRANGEBYSCORE", key, "-inf", now, "LIMIT", 0, 100
        )
        return [member.decode() for member in found]

    async def bury(self, consumer: str, *, leaving: bool = False) -> int:
        """Make a consumer's deliveries that never began due at once, and forget it."""
        moved: int = await self._connection.run(
            "bury",
            [
                self._keys.consumers,
                self._keys.due,
                self._keys.leases,
                self._scope.events,
            ],
            [self.subscriber, consumer, int(leaving)],
        )
        return moved

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

    async def reconnect(self) -> None:
        """Drop the reading connection: the next read begins with a new one."""
        await self._reader.connection_pool.disconnect()

    async def aclose(self) -> None:
        """Close the reading connection; ``bury`` hands back what was not begun."""
        await self._reader.aclose()


def new_nonce() -> str:
    """What nobody else has: a holder's half of a fence (R2)."""
    return secrets.token_hex(8)


def _process_name() -> str:
    """A name for this process, new at every start (R10), that a person can place."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
    return f"{host}:{os.getpid()}:{secrets.token_hex(4)}"


def _entries(reply: object) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    streams: Sequence[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]] = (
        reply or []  # type: ignore[assignment]
    )
    for _, entries in streams:
        for entry, fields in entries:
            found.append((entry.decode(), (fields or {}).get(b"message", b"")))
    return found
