"""How a process of a subscriber gets its deliveries: join, read, collect (R9, R10)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

from broker.connection import Connection
from broker.deliveries import NOBODY, Rows
from broker.handover import LOOK_AT, Handed, HandOver
from broker.keys import LEAVING, PRESENCE, REMOVED, SCOPES, ScopeKeys
from broker.processes import process_name
from broker.settings import Settings, milliseconds
from schemas.errors import ConfigError, InvalidState
from schemas.filters import EVERYTHING, EventFilter

Start = Literal["new", "all"] | datetime | timedelta
"""Where a new subscriber begins: with the next event, with the oldest that is still
there, at a time, or so long ago. Older events are delivered, but not owed (R11)."""

_REFUSED = {
    0: "was removed",
    -1: "is being removed: try again",
    -2: "has had a hundred filters whose events are still there: start all of its "
    "processes with one filter, or remove it",
    -3: "cannot join, since the scope is being removed: try again",
}


class Inbox:
    """One process's share of a subscriber: a consumer with a name of its own (R10)."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        scope: str,
        subscriber: str,
        *,
        takes: EventFilter = EVERYTHING,
        start: Start = "new",
        consumer: str | None = None,
    ) -> None:
        """``start`` matters only where the subscriber is new.

        ``consumer`` is the process's name, a new one by default.
        """
        self.scope = scope
        self.subscriber = subscriber
        self.consumer = consumer or process_name()
        self._takes = takes
        self._start = start
        self._connection = connection
        self._settings = settings
        self._scope = ScopeKeys(scope)
        self._keys = self._scope.subscriber(subscriber)
        self._handover = HandOver(
            connection, settings, scope, subscriber, self.consumer
        )
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def join(self, *, again: bool = False) -> None:
        """Make sure that the subscriber and its group exist, and this consumer lives.

        The first subscriber of a scope adopts the events that waited for one (R12).
        Another filter than the subscriber had counts for events from now on. ``again``
        says that this process had joined before; its filter is then not news.

        Raises:
            InvalidState: the subscriber, or the scope, was removed since this process
                joined, or is being removed; or it has had too many filters.
        """
        scope = self._scope
        types, ids = str(self._takes).split(" ", 1)
        joined = await self._connection.run(
            "join",
            [
                scope.scope_hash,
                scope.subscribers,
                scope.events,
                SCOPES,
                self._keys.consumers,
                LEAVING,
                PRESENCE,
                REMOVED,
            ],
            [
                self.scope,
                self.subscriber,
                self.consumer,
                milliseconds(self._settings.lease),
                int(again),
                self._keys.member,
                types,
                ids,
                _from(self._start),
                milliseconds(self._settings.retention),
            ],
        )
        if again:
            self._handover.look_back()
        if joined < 1:
            raise InvalidState(
                f"subscriber {self.subscriber!r} of scope {self.scope!r} "
                f"{_REFUSED[joined]}"
            )

    async def take(self, count: int, block: timedelta) -> Handed:
        """Be handed new entries, see ``HandOver.take``.

        While the subscriber is paused nothing is, so that its lag shows.

        Raises:
            Unreachable: Redis does not answer, or has lost the group.
        """
        if not self._flowing.is_set() and count:
            with suppress(TimeoutError):
                async with asyncio.timeout(block.total_seconds()):
                    await self._flowing.wait()
            if not self._flowing.is_set():
                return Handed("", [], paused=True)
        handed = await self._handover.take(count, block)
        if handed.paused:
            self._flowing.clear()
        return handed

    async def glance(self, count: int) -> Rows:
        """Be handed what is new, at most ``count``; it is not begun. None while paused.

        Raises:
            Unreachable: Redis does not answer, or has lost the group.
        """
        rows = await self._handover.glance(count)
        return [(entry.decode(), message) for entry, message in rows]

    async def pending(self) -> Rows:
        """Read again what this consumer was given, for after a lost answer (R20)."""
        async with self._connection.answering():
            reply = await self._connection.redis.xreadgroup(
                self.subscriber, self.consumer, {self._scope.events: "0"}, count=1000
            )
        return _entries(reply)

    async def stranded(self, entries: Collection[str]) -> Rows:
        """What this consumer has had for a lease, but is not among its ``entries``.

        An answer may have been lost with it, or it came while it was still at work.
        """
        stream, lease = self._scope.events, milliseconds(self._settings.lease)
        async with self._connection.answering():
            pending = await self._connection.redis.xpending_range(
                *(stream, self.subscriber, "-", "+", LOOK_AT),
                consumername=self.consumer,
                idle=lease,
            )
        found: Rows = []
        for row in pending:
            assert isinstance(row["message_id"], bytes)
            if (name := row["message_id"].decode()) not in entries:
                rows = await self._connection.ask("XRANGE", stream, name, name)
                found += [(name, fields.get(b"message", b"")) for _, fields in rows]
        return found

    async def collect(self, count: int) -> Rows:
        """Take deliveries whose time has come, at most ``count``; none while paused."""
        paused, *found = await self._connection.run(
            "collect",
            [self._keys.due, self._scope.events, self._keys.state],
            [self.subscriber, self.consumer, count],
        )
        if paused:
            self._flowing.clear()
        else:
            self._flowing.set()
        return _pairs(found)

    async def bury(self, consumer: str, *, leaving: bool = False) -> int:
        """Make a consumer's deliveries that never began due at once, and forget it."""
        moved: int = await self._connection.run(
            "bury",
            [
                self._keys.consumers,
                self._keys.due,
                self._keys.leases,
                self._scope.events,
                self._keys.state,
                self._keys.arrived,
            ],
            [self.subscriber, consumer, int(leaving)],
        )
        return moved

    async def expired(self) -> list[str]:
        """Deliveries whose holder's lease has ended."""
        return await self._overdue(self._keys.leases)

    async def dead_consumers(self) -> list[str]:
        """Consumers of this subscriber that no longer extend.

        One that was buried, woke and read again has no place until it extends; if it
        died before that, only the group knows of it.
        """
        overdue = await self._overdue(self._keys.consumers)
        async with self._connection.answering():
            rows = await self._connection.redis.xinfo_consumers(
                self._scope.events, self.subscriber
            )
        names = [row["name"] for row in rows if row["name"] != NOBODY]
        if not names:
            return overdue
        places = await self._connection.ask("ZMSCORE", self._keys.consumers, *names)
        unknown = [
            name.decode()
            for name, place in zip(names, places, strict=True)
            if place is None
        ]
        return [*overdue, *unknown]

    async def _overdue(self, key: str) -> list[str]:
        now = await self._connection.now()
        found: list[bytes] = await self._connection.ask(
            "ZRANGEBYSCORE", key, "-inf", now, "LIMIT", 0, 100
        )
        return [member.decode() for member in found]

    async def reconnect(self) -> None:
        """Drop the reading connection: the next read begins with a new one."""
        await self._handover.aclose()

    async def aclose(self) -> None:
        """Close the reading connection; ``bury`` hands back what was not begun."""
        await self._handover.aclose()


def check_start(start: Start) -> Start:
    """Return ``start`` if it is one.

    Raises:
        ConfigError: it is not.
    """
    if start in ("new", "all") or isinstance(start, datetime | timedelta):
        return start
    raise ConfigError(
        f"start={start!r}: use 'new', 'all', a datetime, or a timedelta for so long ago"
    )


def _from(start: Start) -> int | str:
    """Where to start, as join.lua reads it: Redis's clock says when now is."""
    if start == "new":
        return "-"
    if start == "all":
        return 0
    if isinstance(start, timedelta):
        return min(-1, -milliseconds(start))
    return max(0, round(start.timestamp() * 1000))


def _entries(reply: object) -> Rows:
    found: Rows = []
    streams: Sequence[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]] = (
        reply or []  # type: ignore[assignment]
    )
    for _, entries in streams:
        for entry, fields in entries:
            found.append((entry.decode(), (fields or {}).get(b"message", b"")))
    return found


def _pairs(found: list[bytes]) -> Rows:
    pairs = zip(found[::2], found[1::2], strict=True)
    return [(entry.decode(), message) for entry, message in pairs]
