"""Subscribers that nobody runs any more: they leave the set by themselves (R21)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from broker.connection import Connection
from broker.keys import PRESENCE, RECLAIM, ScopeKeys
from broker.settings import Settings, milliseconds

BATCH = 100


@dataclass(frozen=True, slots=True)
class Absence:
    """A subscriber that has left, since no process of it was there for a retention."""

    scope: str
    subscriber: str
    seen: datetime
    """When a process of it was there last."""


async def expire_absent(connection: Connection, settings: Settings) -> list[Absence]:
    """Look for the subscribers whose time it is; return those that leave now.

    Later events are not owed to them. What they are owed expires with the retention of
    each fetch; who comes back before finds it.

    Raises:
        Unreachable: Redis does not answer.
    """
    now = await connection.now()
    members: list[bytes] = await connection.ask(
        "ZRANGEBYSCORE", PRESENCE, "-inf", now, "LIMIT", 0, BATCH
    )
    looks = [_look(connection, settings, member.decode()) for member in members]
    return [absence for absence in await asyncio.gather(*looks) if absence is not None]


async def _look(
    connection: Connection, settings: Settings, member: str
) -> Absence | None:
    scope, _, subscriber = member.partition("/")
    keys = ScopeKeys(scope)
    mine = keys.subscriber(subscriber)
    verdict, seen = await connection.run(
        "absent",
        [
            keys.scope_hash,
            keys.subscribers,
            keys.events,
            PRESENCE,
            RECLAIM,
            mine.consumers,
            mine.state,
            mine.copies,
            *mine.all(),
        ],
        [subscriber, member, milliseconds(settings.retention)],
    )
    if verdict != b"left":
        return None
    return Absence(scope, subscriber, datetime.fromtimestamp(seen / 1000, UTC))
