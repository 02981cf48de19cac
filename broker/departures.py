"""Subscribers that were removed: what they were owed is settled as such (R21)."""

from __future__ import annotations

import asyncio

from broker.connection import Connection
from broker.deliveries import DeliveryName, conclude
from broker.keys import LEAVING, ScopeKeys
from broker.settings import Settings
from schemas.events import DeliveryOutcome

BATCH = 100
_AT_ONCE = 16


async def departing(connection: Connection) -> list[tuple[str, str]]:
    """Return scope and name of each subscriber that left, but is still owed something.

    Raises:
        Unreachable: Redis does not answer.
    """
    members: set[bytes] = await connection.ask("SMEMBERS", LEAVING)
    return [_split(member.decode()) for member in sorted(members)]


async def settle_departed(
    connection: Connection, settings: Settings, scope: str, subscriber: str
) -> int:
    """Settle as removed what a subscriber that left was owed; return how much it was.

    Interrupted, it can be done again, by anybody: nothing is settled twice.

    Raises:
        Unreachable: Redis does not answer.
    """
    keys, settled, start = ScopeKeys(scope), 0, "-"
    slots = asyncio.Semaphore(_AT_ONCE)

    async def settle(delivery: DeliveryName) -> bool:
        async with slots:
            return await conclude(
                connection, settings, delivery, DeliveryOutcome.REMOVED
            )

    while rows := await connection.ask(
        "XRANGE", keys.events, start, "+", "COUNT", BATCH
    ):
        start = f"({rows[-1][0].decode()}"
        names = (DeliveryName.published(scope, subscriber, *row) for row in rows)
        settled += sum(await asyncio.gather(*map(settle, filter(None, names))))
    mine = keys.subscriber(subscriber)
    await connection.run(
        "forget", [keys.subscribers, LEAVING, *mine.all()], [subscriber, mine.member]
    )
    return settled


def _split(member: str) -> tuple[str, str]:
    scope, _, subscriber = member.partition("/")
    return scope, subscriber
