"""A delivery that somebody holds: extend it, acknowledge it, give it up (R10, R20).

Whoever knows its fence may do so, in whichever process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from broker.connection import Connection
from broker.deliveries import DeliveryName, bounded
from broker.keys import FetchKeys, ScopeKeys
from broker.settings import Settings, milliseconds


@dataclass(frozen=True, slots=True)
class Held:
    """The right to a delivery, while its lease lasts."""

    name: DeliveryName
    nonce: str


class Nack(StrEnum):
    """What a refused delivery came to."""

    WAITING = "waiting"
    DEAD = "dead"
    STALE = "stale"


async def ack(
    connection: Connection, settings: Settings, held: Sequence[Held]
) -> list[bool]:
    """Acknowledge some deliveries of one subscriber; False where it is not so held.

    Raises:
        Unreachable: Redis does not answer. They may have been acknowledged.
    """
    keys, arguments = held[0].name.context(settings)
    for one in held:
        fetch = FetchKeys(one.name.scope, one.name.uid)
        keys += [fetch.fetch, fetch.events]
        arguments += [one.name.event, one.name.member, one.nonce]
    answers = await connection.run("ack", keys, arguments)
    return [answer == 1 for answer in answers]


async def nack(
    connection: Connection,
    settings: Settings,
    held: Held,
    *,
    failed: bool,
    delay: timedelta,
    reason: str,
) -> Nack:
    """End an attempt without acknowledgement; only failures count (R20).

    Without a nonce: of whoever holds it, if that lease is over.

    Raises:
        Unreachable: Redis does not answer. It may have been ended.
    """
    keys, arguments = held.name.context(settings)
    mine = ScopeKeys(held.name.scope).subscriber(held.name.subscriber)
    verdict = await connection.run(
        "nack",
        [*keys, *held.name.letter_keys(), mine.arrived],
        [
            *arguments,
            held.nonce,
            int(failed),
            milliseconds(delay),
            settings.max_deliveries,
            bounded(reason),
        ],
    )
    return Nack(verdict.decode())


def extension(
    scope: str, subscriber: str, consumer: str, lease: timedelta, held: Iterable[Held]
) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of one ``extend``, for the consumer and all that it holds."""
    held, mine = tuple(held), ScopeKeys(scope).subscriber(subscriber)
    keys = [mine.consumers, mine.leases]
    keys += [FetchKeys(scope, one.name.uid).events for one in held]
    values = ((one.name.event, one.nonce, one.name.member) for one in held)
    return keys, [
        consumer,
        milliseconds(lease),
        subscriber,
        *(value for three in values for value in three),
    ]


async def extend(
    connection: Connection,
    scope: str,
    subscriber: str,
    *,
    consumer: str,
    lease: timedelta,
    held: Iterable[Held],
) -> list[bytes]:
    """Keep a consumer's place, and what it holds; return what it does not hold.

    Raises:
        Unreachable: Redis does not answer.
    """
    keys, arguments = extension(scope, subscriber, consumer, lease, held)
    lost: list[bytes] = await connection.run("extend", keys, arguments)
    return lost


def backoff(settings: Settings, failures: int) -> timedelta:
    """The longest wait before a delivery that failed so often comes again."""
    return min(
        settings.redelivery_backoff * (1 << min(failures, 30)),
        settings.max_redelivery_backoff,
    )
