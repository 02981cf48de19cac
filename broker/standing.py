"""How subscribers stand: what they take, how far behind each is (R11)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Self

from broker.connection import Connection
from broker.deliveries import NOBODY
from broker.keys import ScopeKeys
from schemas.filters import EventFilter

COUNTED = 10_000
"""The largest lag that is counted where the events' numbers do not tell it."""
Entry = tuple[bytes, dict[bytes, bytes]]
"""One entry of the stream: its id and its fields."""


class Standing(StrEnum):
    """Whether a subscriber handles events."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Nothing new begins there."""
    EXPIRED = "expired"
    """No process of it was there for a retention: later events are not owed to it."""


@dataclass(frozen=True, slots=True)
class SubscriberLook:
    """How a subscriber stands, at one moment."""

    name: str
    takes: EventFilter
    """The events that it is owed."""
    state: Standing
    processes: int
    """Processes that live: that have extended their place within a lease."""
    lag: int
    """Events that no process of it has read yet.

    Those deleted at the end of their retention, unread, between others that are there
    may still count.
    """
    pending: int
    """Deliveries that a process has, begun or about to."""
    waiting: int
    """Deliveries that failed, or were handed back, and wait for their time."""
    dead: int
    """Dead letters that wait to be replayed or purged."""
    excluded: int
    """Events that its filter has kept from it so far."""
    oldest: timedelta | None
    """Age of the oldest event among those that lag, are pending or wait."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What a subscriber takes now; a line of ``lua/_membership.lua``."""

    takes: EventFilter
    left: str | None
    """In which version of the set, if it left by itself."""

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read one line."""
        _, left, _, takes = line.split(" ", 3)
        return cls(EventFilter.parse(takes), None if left == "-" else left)


async def memberships(connection: Connection, keys: ScopeKeys) -> dict[str, Membership]:
    """Return the newest membership of each subscriber that was not removed, by name.

    Raises:
        Unreachable: Redis does not answer.
    """
    rows: dict[bytes, bytes] = await connection.ask("HGETALL", keys.subscribers)
    lines = {name.decode(): rows[name].decode().split("\n", 1)[0] for name in rows}
    return {
        name: Membership.parse(lines[name])
        for name in sorted(lines)
        if lines[name] != "removed"
    }


async def look_at_all(connection: Connection, keys: ScopeKeys) -> list[SubscriberLook]:
    """Return how each subscriber of a scope stands, by name.

    Raises:
        Unreachable: Redis does not answer.
    """
    found = await memberships(connection, keys)
    if not found:
        return []
    async with connection.answering():
        rows = await connection.redis.xinfo_groups(keys.events)
    groups = {row["name"].decode(): row for row in rows}
    return [
        await _look(connection, keys, name, membership, groups.get(name, {}))
        for name, membership in found.items()
    ]


async def _look(
    connection: Connection,
    keys: ScopeKeys,
    name: str,
    membership: Membership,
    group: dict[str, object],
) -> SubscriberLook:
    mine, ask = keys.subscriber(name), connection.ask
    read = group.get("last-delivered-id", b"0-0")
    assert isinstance(read, bytes)
    now, unread = await asyncio.gather(
        connection.now(), _after(connection, keys, read.decode(), 1)
    )
    processes, waiting, letters, copies, state = await asyncio.gather(
        ask("ZCOUNT", mine.consumers, f"({now}", "+inf"),
        ask("ZCARD", mine.due),
        ask("HLEN", mine.dead),
        ask("ZCARD", mine.copies),
        ask("HMGET", mine.state, "paused", "excluded"),
    )
    pending, ages = 0, [entry for entry, _ in unread]
    if group:
        async with connection.answering():
            owned = await connection.redis.xpending(keys.events, name)
        pending = sum(
            row["pending"] for row in owned["consumers"] if row["name"] != NOBODY
        )
        ages = ages + ([owned["min"]] if owned["min"] else [])
    born = min((int(entry.split(b"-")[0]) for entry in ages), default=None)
    return SubscriberLook(
        name,
        membership.takes,
        _standing(membership, paused=state[0] is not None),
        processes,
        await _lag(connection, keys, unread[0]) if unread else 0,
        pending,
        waiting,
        letters - copies,
        int(state[1] or 0),
        None if born is None else timedelta(milliseconds=max(0, now - born)),
    )


async def _lag(connection: Connection, keys: ScopeKeys, first: Entry) -> int:
    """How many entries there are from ``first`` on.

    Redis's own count is void once entries were deleted, and wrong after a start from
    the append-only file, which does not keep how many a group has read.
    """
    length, newest = await asyncio.gather(
        connection.ask("XLEN", keys.events),
        connection.ask("XREVRANGE", keys.events, "+", "-", "COUNT", 1),
    )
    one, other = _number(first), _number(newest[0]) if newest else None
    if one is not None and other is not None and one <= other:
        return min(other - one + 1, int(length))
    return await _count(connection, keys, first)


def _number(entry: Entry) -> int | None:
    """The number of an event; None of an entry that has none."""
    number = entry[1].get(b"number", b"")
    return int(number) if number.isdigit() else None


async def _count(connection: Connection, keys: ScopeKeys, first: Entry) -> int:
    """Count the entries from ``first`` on, up to ``COUNTED``."""
    found, last = 1, first[0]
    while found < COUNTED and (
        rows := await _after(connection, keys, last.decode(), min(COUNTED - found, 500))
    ):
        found += len(rows)
        last = rows[-1][0]
    return found


async def _after(
    connection: Connection, keys: ScopeKeys, last: str, most: int
) -> list[Entry]:
    """The first entries after ``last``."""
    found: list[Entry] = await connection.ask(
        "XRANGE", keys.events, f"({last}", "+", "COUNT", most
    )
    return found


def _standing(membership: Membership, *, paused: bool) -> Standing:
    if membership.left is not None:
        return Standing.EXPIRED
    return Standing.PAUSED if paused else Standing.ACTIVE
