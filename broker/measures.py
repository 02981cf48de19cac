"""How much was done and how much waits, over all processes: Redis has counted it.

The scripts that change the state count what they do, in the scope's own hash: no
process has counts of its own, and none are lost with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.connection import Connection
from broker.keys import ScopeKeys
from broker.origins import all_origins
from broker.processes import Processes
from broker.queue import QUEUES, queue_key
from broker.scopes import scope_names
from broker.standing import SubscriberLook, look_at_all
from schemas.fetches import FailureReason, Priority, Result

OUTCOMES = (Result.SUCCESS, *(each for each in FailureReason if each))
"""How a fetch may end: success, or why not."""
_DELIVERIES = ("acked", "dead", "purged", "expired", "removed")
_FIELDS = (
    "seq",
    "downloaded",
    "uploaded",
    "published",
    "attempts:failed",
    "endedAfter",
)
_ABREAST = 32
"""Scopes that are asked about at a time."""


@dataclass(frozen=True, slots=True)
class ScopeMeasures:
    """What one scope has done since it began, and what it has now."""

    scope: str
    registered: int
    """Fetches."""
    ended: Mapping[str, int]
    """Fetches by outcome: success, or the failure reason."""
    ended_after: float
    """Seconds from registration to the end, of all fetches that ended."""
    downloaded: int
    """Bytes that were stored, those of records that began again included."""
    uploaded: int
    """Bytes of request bodies that were sent."""
    published: int
    """Events."""
    deliveries: Mapping[str, int]
    """Deliveries by outcome; dead ones may have another later."""
    attempts_failed: int
    """Attempts of handlers that failed."""
    active: int
    retained: int
    """Fetches that are there, ended ones included."""
    waiting: Mapping[str, int]
    """Lane jobs that wait in the scope's line for a place in RQ, by priority."""
    subscribers: tuple[SubscriberLook, ...]


@dataclass(frozen=True, slots=True)
class Measures:
    """Everything at one moment."""

    scopes: tuple[ScopeMeasures, ...]
    queued: Mapping[str, int]
    """Lane jobs in RQ's queues that no worker has taken, by queue."""
    processes: Mapping[str, int]
    """Processes that live, by role."""
    origins: int
    """Origins that are used or remembered, at most 1,000."""
    origins_paused: int
    origins_lowered: int = field(default=0)
    """Origins whose limit is below its base."""


async def measure(connection: Connection) -> Measures:
    """Read everything that was counted.

    Raises:
        Unreachable: Redis does not answer.
    """
    names = await scope_names(connection)
    gate = asyncio.Semaphore(_ABREAST)
    origins, alive, *lengths = await asyncio.gather(
        all_origins(connection),
        Processes(connection).alive(),
        *(connection.ask("LLEN", queue_key(priority)) for priority in QUEUES),
    )
    return Measures(
        tuple(
            await asyncio.gather(*(_measure(connection, gate, name) for name in names))
        ),
        dict(zip(QUEUES.values(), lengths, strict=True)),
        Counter(str(process.role) for process in alive),
        len(origins),
        sum(1 for look in origins if look.paused_until is not None),
        sum(1 for look in origins if look.limit < look.base),
    )


async def _measure(
    connection: Connection, gate: asyncio.Semaphore, scope: str
) -> ScopeMeasures:
    keys, ask = ScopeKeys(scope), connection.ask
    fields = [
        *_FIELDS,
        *(f"ended:{outcome}" for outcome in OUTCOMES),
        *(f"deliveries:{outcome}" for outcome in _DELIVERIES),
    ]
    async with gate:
        counts, active, retained, subscribers, *lines = await asyncio.gather(
            ask("HMGET", keys.scope_hash, *fields),
            ask("HLEN", keys.active),
            ask("ZCARD", keys.fetches),
            look_at_all(connection, keys),
            *(ask("ZCARD", keys.waiting(priority)) for priority in Priority),
        )
    count = dict(zip(fields, (int(value or 0) for value in counts), strict=True))
    return ScopeMeasures(
        scope,
        registered=count["seq"],
        ended={outcome: count[f"ended:{outcome}"] for outcome in OUTCOMES},
        ended_after=count["endedAfter"] / 1000,
        downloaded=count["downloaded"],
        uploaded=count["uploaded"],
        published=count["published"],
        deliveries={each: count[f"deliveries:{each}"] for each in _DELIVERIES},
        attempts_failed=count["attempts:failed"],
        active=active,
        retained=retained,
        waiting=dict(zip(Priority, lines, strict=True)),
        subscribers=tuple(subscribers),
    )
