"""Deliveries: their names, the right to one, and how one ends without an
acknowledgement (R9, R10, R21).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from broker.connection import Connection
from broker.context import context
from broker.keys import FetchKeys, ScopeKeys
from broker.settings import Settings
from schemas.errors import InvalidMessage
from schemas.events import DeliveryOutcome, EventMessage
from schemas.fetches import FetchState

Rows = list[tuple[str, bytes]]
"""Entries of the event stream: their ids and messages."""

NOBODY = b"-"
"""The consumer that owns deliveries which wait for their time (R20)."""
MAX_REASON = 1000
"""Characters of a failure's reason that are kept."""


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


@dataclass(frozen=True, slots=True)
class Received:
    """What a process was handed: what it holds, and what it has still to begin."""

    begun: list[Begun]
    rows: Rows
    """Entries of another release, or of nobody we know; or that cannot be read."""
    nonce: str
    """Under which to begin what is in ``rows``: it may be held so."""


class Refused(StrEnum):
    """Why a delivery does not begin here."""

    WAIT = "wait"
    HELD = "held"
    PAUSED = "paused"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class DeliveryName:
    """An event of a fetch, on its way to one subscriber."""

    scope: str
    subscriber: str
    entry: str
    uid: str
    event: str

    @classmethod
    def of(cls, scope: str, subscriber: str, member: str) -> Self:
        """Read the name that a delivery has in its subscriber's sets.

        Raises:
            ValueError: it is no such name.
        """
        entry, uid, event = member.split("/", 2)
        return cls(scope, subscriber, entry, uid, event)

    @classmethod
    def published(
        cls, scope: str, subscriber: str, entry: bytes, fields: dict[bytes, bytes]
    ) -> Self | None:
        """Read the name from an entry of the stream; None if it is no event of ours."""
        told = fields.get(b"delivery", b"").decode(errors="replace")
        try:
            return cls.of(scope, subscriber, f"{entry.decode()}/{told}")
        except ValueError:
            return None

    @property
    def member(self) -> str:
        """The name of this delivery in its subscriber's sets."""
        return f"{self.entry}/{self.uid}/{self.event}"

    def context(self, settings: Settings) -> tuple[list[str], list[str | int]]:
        """The keys and arguments with which every script about a delivery begins."""
        keys, arguments = context(FetchKeys(self.scope, self.uid), settings)
        mine = ScopeKeys(self.scope).subscriber(self.subscriber)
        return (
            [*keys, mine.leases, mine.due],
            [*arguments, self.subscriber, self.event, self.member],
        )

    def letter_keys(self) -> list[str]:
        """Where its dead letter is, for the scripts that write or drop one."""
        mine = ScopeKeys(self.scope).subscriber(self.subscriber)
        return [mine.dead, mine.copies]


async def conclude(
    connection: Connection,
    settings: Settings,
    delivery: DeliveryName,
    outcome: DeliveryOutcome,
) -> bool:
    """Give a delivery its outcome; False if it has another, or this one is not due.

    Raises:
        Unreachable: Redis does not answer.
    """
    keys, arguments = delivery.context(settings)
    subscribers = ScopeKeys(delivery.scope).subscribers
    return bool(
        await connection.run(
            "conclude",
            [*keys, *delivery.letter_keys(), subscribers],
            [*arguments, outcome],
        )
    )


def bounded(reason: str) -> str:
    """A reason as it is kept: in UTF-8, and not at any length."""
    return reason.encode(errors="replace").decode()[:MAX_REASON]


def begun_or_refused(
    delivery: Delivery, nonce: str, answer: list[Any]
) -> Begun | Refused | InvalidMessage:
    """Read what ``begin.lua`` answers about a delivery."""
    if answer[0] != b"ok":
        return Refused(answer[0].decode())
    try:
        return begun_of(delivery, nonce, *answer[1:])
    except InvalidMessage as error:  # it concerns this one alone
        return error


def begun_of(
    delivery: Delivery, nonce: str, attempt: int, failures: int, fields: list[bytes]
) -> Begun:
    """A delivery that is held, with the fetch's hash unless its message has the same.

    Raises:
        InvalidMessage: the hash cannot be read; it is of a later release, maybe.
    """
    state = delivery.message.registration
    if fields:
        state = FetchState.from_hash(dict(zip(fields[::2], fields[1::2], strict=True)))
    return Begun(delivery, nonce, attempt, failures, state)


def new_nonce() -> str:
    """What nobody else has: a holder's half of a fence (R2)."""
    return secrets.token_hex(8)
