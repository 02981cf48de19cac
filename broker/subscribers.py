"""The subscribers of a scope: how each is getting on; pause, resume, remove (R21)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple

from broker.connection import Connection
from broker.departures import settle_departed
from broker.keys import LEAVING, PRESENCE, ScopeKeys
from broker.replays import Moment, replay_range
from broker.settings import Settings
from schemas.errors import InvalidState
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


class Subscribers:
    """The subscribers of one scope."""

    def __init__(self, connection: Connection, settings: Settings, scope: str) -> None:
        self.scope = scope
        self._connection = connection
        self._settings = settings
        self._keys = ScopeKeys(scope)

    async def names(self) -> list[str]:
        """Return the names of all subscribers that are owed events, in order.

        Raises:
            Unreachable: Redis does not answer.
        """
        members = await self._members()
        return [name for name, newest in members.items() if newest.left == "-"]

    async def _members(self) -> dict[str, _Membership]:
        """The newest membership of each subscriber that was not removed, by name."""
        rows: dict[bytes, bytes] = await self._connection.ask(
            "HGETALL", self._keys.subscribers
        )
        lines = {name.decode(): rows[name].decode().partition("\n") for name in rows}
        return {
            name: _Membership(*lines[name][0].split(" ", 4))
            for name in sorted(lines)
            if lines[name][0] != "removed"
        }

    async def look(self) -> list[SubscriberLook]:
        """Return how each subscriber stands, by name.

        Raises:
            Unreachable: Redis does not answer.
        """
        members = await self._members()
        if not members:
            return []
        async with self._connection.answering():
            rows = await self._connection.redis.xinfo_groups(self._keys.events)
        groups = {row["name"].decode(): row for row in rows}
        return [
            await self._look(name, membership, groups.get(name, {}))
            for name, membership in members.items()
        ]

    async def _look(
        self, name: str, membership: _Membership, group: dict[str, object]
    ) -> SubscriberLook:
        keys, ask = self._keys.subscriber(name), self._connection.ask
        read = group.get("last-delivered-id", b"0-0")
        assert isinstance(read, bytes)
        lag = group.get("lag")
        count = 1 if isinstance(lag, int) else COUNTED
        now, unread = await asyncio.gather(
            self._connection.now(), self._unread(read.decode(), count)
        )
        processes, waiting, letters, copies, state = await asyncio.gather(
            ask("ZCOUNT", keys.consumers, f"({now}", "+inf"),
            ask("ZCARD", keys.due),
            ask("HLEN", keys.dead),
            ask("ZCARD", keys.copies),
            ask("HMGET", keys.state, "paused", "excluded"),
        )
        pending, ages = 0, unread[:1]
        if group:
            async with self._connection.answering():
                owned = await self._connection.redis.xpending(self._keys.events, name)
            pending = sum(
                row["pending"] for row in owned["consumers"] if row["name"] != NOBODY
            )
            ages = ages + ([owned["min"]] if owned["min"] else [])
        born = min((int(entry.split(b"-")[0]) for entry in ages), default=None)
        return SubscriberLook(
            name,
            EventFilter.parse(f"{membership.types} {membership.ids}"),
            _standing(membership, paused=state[0] is not None),
            processes,
            lag if isinstance(lag, int) else len(unread),
            pending,
            waiting,
            letters - copies,
            int(state[1] or 0),
            None if born is None else timedelta(milliseconds=max(0, now - born)),
        )

    async def _unread(self, last: str, most: int) -> list[bytes]:
        """Entries after ``last``: Redis loses count when entries are deleted."""
        found: list[bytes] = []
        start = f"({last}"
        while len(found) < most:
            rows = await self._connection.ask(
                "XRANGE", self._keys.events, start, "+", "COUNT", min(most, 500)
            )
            if not rows:
                break
            found += [entry for entry, _ in rows]
            start = f"({found[-1].decode()}"
        return found

    async def pause(self, name: str) -> bool:
        """Let nothing new begin at a subscriber; False if there is no such.

        What runs goes on, and keeps its leases. Events are still owed to it: its lag
        grows, and their records stay. It stays paused, whoever starts or stops, until
        ``resume``; its processes notice within a second.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await self._set_paused(name, paused=True)

    async def resume(self, name: str) -> bool:
        """Undo ``pause``; False if there is no such subscriber.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await self._set_paused(name, paused=False)

    async def _set_paused(self, name: str, *, paused: bool) -> bool:
        state = self._keys.subscriber(name).state
        return bool(
            await self._connection.run(
                "pause", [self._keys.subscribers, state], [name, int(paused)]
            )
        )

    async def replay(
        self, name: str, *, since: Moment, until: Moment | None = None
    ) -> int:
        """Deliver again what was published in a time range, as far as it is there.

        They are the same deliveries, their failures forgotten: dead letters, those that
        wait for another attempt, and those that were settled. What was settled keeps
        its outcome and is not owed anew, so records may be released; nor is what the
        subscriber was never owed, from before its time or its filter. Its present
        filter decides about both. What runs, or is still to come, is left alone.

        Times are by Redis's clock; a timedelta is so long ago; ``until`` is now by
        default. Returns how many deliveries come again.

        Raises:
            Unreachable: Redis does not answer. Some may have been replayed.
        """
        return await replay_range(
            self._connection, self._settings, self.scope, name, since, until
        )

    async def remove(self, name: str) -> bool:
        """Take a subscriber out of the scope's set; False if there is no such.

        Later events are not owed to it. What it was owed is settled as ``removed``,
        its dead letters too, so that records are released. A call that is interrupted
        is finished by any worker, or by repeating it.

        Raises:
            InvalidState: a process of it lives, or did within the last lease.
            Unreachable: Redis does not answer.
        """
        keys, mine = self._keys, self._keys.subscriber(name)
        verdict: bytes = await self._connection.run(
            "remove",
            [
                keys.scope_hash,
                keys.subscribers,
                keys.events,
                mine.consumers,
                LEAVING,
                PRESENCE,
            ],
            [name, mine.member],
        )
        if verdict == b"alive":
            raise InvalidState(
                f"subscriber {name!r} of scope {self.scope!r} has live processes: stop "
                "them; a killed one counts until its lease is over"
            )
        if verdict == b"unknown":
            return False
        await settle_departed(self._connection, self._settings, self.scope, name)
        return True


class _Membership(NamedTuple):
    """A line of ``lua/_membership.lua``."""

    joined: str
    left: str
    since: str
    types: str
    ids: str


def _standing(membership: _Membership, *, paused: bool) -> Standing:
    if membership.left != "-":
        return Standing.EXPIRED
    return Standing.PAUSED if paused else Standing.ACTIVE
