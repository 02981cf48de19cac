"""How subscribers stand: what they take, how far behind each is (R11)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Self

from broker.connection import Connection
from broker.keys import ScopeKeys
from schemas.filters import EventFilter

NOBODY = b"-"
"""The consumer that owns deliveries which wait for their time (R20)."""
COUNTED = 10_000
"""The largest lag that is counted where Redis does not know it."""


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
    """Events that no process of it has read yet."""
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
    lag = group.get("lag")
    count = 1 if isinstance(lag, int) else COUNTED
    now, unread = await asyncio.gather(
        connection.now(), _unread(connection, keys, read.decode(), count)
    )
    processes, waiting, letters, copies, state = await asyncio.gather(
        ask("ZCOUNT", mine.consumers, f"({now}", "+inf"),
        ask("ZCARD", mine.due),
        ask("HLEN", mine.dead),
        ask("ZCARD", mine.copies),
        ask("HMGET", mine.state, "paused", "excluded"),
    )
    pending, ages = 0, unread[:1]
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
        lag if isinstance(lag, int) else len(unread),
        pending,
        waiting,
        letters - copies,
        int(state[1] or 0),
        None if born is None else timedelta(milliseconds=max(0, now - born)),
    )


async def _unread(
    connection: Connection, keys: ScopeKeys, last: str, most: int
) -> list[bytes]:
    """Entries after ``last``: Redis loses count when entries are deleted."""
    found: list[bytes] = []
    start = f"({last}"
    while len(found) < most:
        rows = await connection.ask(
            "XRANGE", keys.events, start, "+", "COUNT", min(most, 500)
        )
        if not rows:
            break
        found += [entry for entry, _ in rows]
        start = f"({found[-1].decode()}"
    return found


def _standing(membership: Membership, *, paused: bool) -> Standing:
    if membership.left is not None:
        return Standing.EXPIRED
    return Standing.PAUSED if paused else Standing.ACTIVE
