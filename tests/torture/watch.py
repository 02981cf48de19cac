"""Watches the Redis of ``torture events``: how far it is, and whether it is slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from broker.connection import Connection
from broker.keys import FetchKeys, ScopeKeys
from schemas.errors import Unreachable
from tests.torture.crew import LEASE, SUBSCRIBERS
from tests.torture.history import History, Progress
from tests.torture.publisher import SCOPE

_POLL = 0.04
_PATIENCE = 120.0
"""Seconds in which nothing moves, after which a round is stuck."""


class Watch:
    """Looks at the groups of the event stream again and again."""

    def __init__(self, url: str, history: History, progress: Progress) -> None:
        self._progress = progress
        self._connection = Connection(url)
        self._history = history
        self._stream = ScopeKeys(SCOPE).events
        self._moved = time.monotonic()
        self.groups: list[dict[str, Any]] = []
        """What Redis says of each subscriber."""

    async def run(self) -> None:
        """Look until cancelled; tell when all got too little time to keep a lease."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(_POLL)
            with suppress(RedisError, OSError):
                self.groups = await self._connection.redis.xinfo_groups(self._stream)
            before = self._progress.handled
            self._progress.look()
            if self._progress.handled > before:
                self._moved = time.monotonic()
            now = time.monotonic()
            if now - last > LEASE / 4:
                self._history.write("fault", "starved", 0, last, now + LEASE)
            last = now

    async def joined(self) -> None:
        """Wait until every subscriber is owed what is published, if that ever is."""
        while len(self.groups) < len(SUBSCRIBERS) and await self.moves():
            pass

    async def moves(self) -> bool:
        """Wait a little; False if nothing has moved for too long."""
        await asyncio.sleep(_POLL)
        return time.monotonic() - self._moved < _PATIENCE

    @property
    def handled(self) -> int:
        """Deliveries that were handled to the end, of all subscribers."""
        return self._progress.handled

    @property
    def begun(self) -> Mapping[int, int]:
        """Handlers of each process that have begun, and not ended."""
        return self._progress.begun

    async def drained(self) -> bool:
        """Whether nobody has anything left to handle now."""
        try:
            stream = await self._connection.redis.xinfo_stream(self._stream)
            groups = await self._connection.redis.xinfo_groups(self._stream)
        except (RedisError, OSError):
            return False
        last = stream["last-generated-id"]
        return len(groups) == len(SUBSCRIBERS) and all(
            group["last-delivered-id"] == last and not group["pending"]
            for group in groups
        )

    async def holder(self, delivery: str) -> int | None:
        """The process that has a delivery, or had it last; None if Redis is away."""
        uid, event, subscriber = delivery.split("/")
        key = FetchKeys(SCOPE, uid).events
        with suppress(Unreachable):
            value = await self._connection.ask("HGET", key, f"{event}|{subscriber}")
            if value is not None:
                return int(value.decode().split(" ")[4].split(":")[1])
        return None

    async def readable(self) -> list[str]:
        """Fetches whose records can still be read.

        Raises:
            Unreachable: Redis does not answer.
        """
        found = []
        fetches = await self._connection.ask("ZRANGE", ScopeKeys(SCOPE).fetches, 0, -1)
        for uid in map(bytes.decode, fetches):
            key = FetchKeys(SCOPE, uid).fetch
            if await self._connection.ask("HGET", key, "recordsAvailable") != b"0":
                found.append(uid)
        return found

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()
