"""Delivering a time range of events again (R21)."""

from __future__ import annotations

import asyncio
import secrets
from datetime import datetime, timedelta

from broker.connection import Connection
from broker.deliveries import DeliveryName
from broker.keys import FetchKeys, ScopeKeys
from broker.settings import Settings, milliseconds

Moment = datetime | timedelta
"""A time, or how long ago by Redis's clock."""

BATCH = 100
_AT_ONCE = 16


async def replay(
    connection: Connection, settings: Settings, name: DeliveryName, *, whatever: bool
) -> bool:
    """Deliver once more: a dead letter, or, with ``whatever``, what became anything.

    Raises:
        Unreachable: Redis does not answer.
    """
    keys, arguments = name.context(settings)
    tokens = FetchKeys(name.scope, name.uid).tokens
    return bool(
        await connection.run(
            "replay",
            [*keys, *name.letter_keys(), tokens, ScopeKeys(name.scope).subscribers],
            [*arguments, "replay:" + secrets.token_hex(8), int(whatever)],
        )
    )


async def replay_range(
    connection: Connection,
    settings: Settings,
    scope: str,
    subscriber: str,
    since: Moment,
    until: Moment | None,
) -> int:
    """Deliver again what was published in a time range and is still there.

    Returns how many deliveries that are.

    Raises:
        Unreachable: Redis does not answer.
    """
    now = await connection.now()
    start, end = str(_place(since, now)), "+" if until is None else _place(until, now)
    events, replayed = ScopeKeys(scope).events, 0
    slots = asyncio.Semaphore(_AT_ONCE)

    async def again(name: DeliveryName) -> bool:
        async with slots:
            return await replay(connection, settings, name, whatever=True)

    while rows := await connection.ask("XRANGE", events, start, end, "COUNT", BATCH):
        start = f"({rows[-1][0].decode()}"
        names = (DeliveryName.published(scope, subscriber, *row) for row in rows)
        replayed += sum(await asyncio.gather(*map(again, filter(None, names))))
    return replayed


def _place(moment: Moment, now: int) -> int:
    """A moment as the stream counts: milliseconds of Redis's clock."""
    if isinstance(moment, timedelta):
        return max(0, now - milliseconds(moment))
    return max(0, round(moment.timestamp() * 1000))
