"""What became of a fetch's events at each subscriber, as its page tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.connection import Connection
from broker.keys import FetchKeys, ScopeKeys

MOST = 500
"""Fields of a fetch's events that a page looks at."""
_PREFIX = "backgroundfetch"


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One event on its way to one subscriber."""

    event: str
    """Its name within the fetch."""
    subscriber: str
    status: str
    """``due``, ``held``, ``dead``, or its outcome, as ``acked``."""
    attempt: int
    failures: int
    published_at: int
    """Milliseconds since the epoch."""
    due: int | None
    """When it is handed out next, if it waits for that."""

    @property
    def name(self) -> str:
        """The event without what all have in common: ``success``, ``click.2``."""
        return self.event.removeprefix(_PREFIX)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event, and the subscribers that it is owed."""

    event: str
    published_at: int
    owed: int | None
    """How many subscribers; None while it waits for the first one."""
    settled: int
    deliveries: Sequence[DeliveryRow]

    @property
    def name(self) -> str:
        """The event without what all have in common."""
        return self.event.removeprefix(_PREFIX)


async def deliveries(connection: Connection, keys: FetchKeys) -> list[EventRow]:
    """Return the events of a fetch in the order of publication.

    Raises:
        Unreachable: Redis does not answer.
    """
    _, rows = await connection.ask("HSCAN", keys.events, 0, "COUNT", MOST)
    # Of what a delivery has beside its state, how its attempts ended is no text.
    fields = {
        name.decode(): value.decode()
        for name, value in rows.items()
        if name.count(b"|") < 2
    }
    events = [name for name in fields if "|" not in name]
    found = []
    for event in events:
        entry, _, owed, settled, _ = fields[event].split(" ")
        at = int(entry.partition("-")[0])
        found.append(
            EventRow(
                event,
                at,
                None if owed == "-" else int(owed),
                int(settled),
                await _of(connection, keys, fields, event, entry),
            )
        )
    return sorted(found, key=lambda row: (row.published_at, row.event))


async def _of(
    connection: Connection,
    keys: FetchKeys,
    fields: dict[str, str],
    event: str,
    entry: str,
) -> list[DeliveryRow]:
    found = []
    for name in sorted(fields):
        start, _, subscriber = name.partition("|")
        if start != event or not subscriber:
            continue
        words = fields[name].split(" ")
        mine = ScopeKeys(keys.scope).subscriber(subscriber)
        due = await connection.ask("ZSCORE", mine.due, f"{entry}/{keys.uid}/{event}")
        found.append(
            DeliveryRow(
                event,
                subscriber,
                words[5] if len(words) > 5 and words[5] else words[0],
                int(words[2]) if len(words) > 2 else 0,
                int(words[1]) if len(words) > 1 else 0,
                int(entry.partition("-")[0]),
                None if due is None else int(float(due)),
            )
        )
    return found


async def window(connection: Connection, keys: FetchKeys, event: str) -> str:
    """Return the URL of the window that a click opened; empty if none so far.

    Raises:
        Unreachable: Redis does not answer.
    """
    url: bytes | None = await connection.ask("HGET", keys.tokens, f"window:{event}")
    return "" if url is None else url.decode()
