"""Keeping what a process knows of a fetch current, and telling who waits for news."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Protocol, TypeVar

from broker.clicks import Clicks
from broker.connection import Connection
from broker.keys import FetchKeys
from broker.progress_events import ProgressTarget
from broker.queue import JobQueue
from broker.records import RecordReader
from broker.settings import Settings
from schemas.errors import InvalidState, Unreachable
from schemas.fetches import FetchState, Progress, Result

T = TypeVar("T")

REREAD_SECONDS = 3.0
"""How long a waiter trusts pub/sub before it reads the hash again (R25)."""


class Owner(Protocol):
    """What a registration needs of the manager that made it."""

    connection: Connection
    settings: Settings
    queue: JobQueue
    clicks: Clicks
    listening: set[ProgressTarget]

    @property
    def reader(self) -> RecordReader:
        """Reads records and their bytes."""

    async def watching(self) -> None:
        """Return once published states reach this manager's registrations."""


class LiveState(ProgressTarget):
    """What a process knows of one fetch, and who is told when that changes.

    Attributes are copies that change only when an update arrives; reading one does no
    I/O (BF-INST-03).
    """

    def __init__(self, owner: Owner, state: FetchState) -> None:
        super().__init__(state, owner.listening)
        self._owner = owner
        self._keys = FetchKeys(state.scope, state.uid)
        self._next: asyncio.Event | None = None  # made for who waits for an update

    async def progress(self) -> AsyncIterator[Progress]:
        """Yield the current state, then every later one; end with the result.

        Snapshots may be coalesced, the last is always delivered. Survives lost
        messages and, after the first snapshot, a Redis that is away.

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        await self._owner.watching()
        await self.refresh()
        shown: Progress | None = None
        while True:
            current = self._state.progress
            if current != shown:
                shown = current
                yield current
            if shown.result is not Result.ACTIVE:
                return
            with suppress(Unreachable):
                await self.changed(since=current)

    async def changed(self, *, since: Progress) -> None:
        """Return once the state differs from ``since``, or after a few seconds.

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        if self._state.progress != since:
            return
        try:
            async with asyncio.timeout(REREAD_SECONDS):
                await self._changed().wait()
        except TimeoutError:
            await self.refresh()

    async def until(
        self,
        look: Callable[[], Awaitable[T | None]],
        timeout: timedelta | None,  # noqa: ASYNC109 - blocking code needs one
    ) -> T:
        """Look now, at every change and every few seconds; return the first finding.

        Survives lost messages and, after the first look, restarts of Redis.

        Raises:
            TimeoutError: there was none within ``timeout``.
            InvalidState: the fetch is no longer retained.
        """
        await self._owner.watching()
        await self.refresh()
        if (found := await look()) is not None:
            return found
        async with asyncio.timeout(
            None if timeout is None else timeout.total_seconds()
        ):
            return await self._until(look)

    async def _until(self, look: Callable[[], Awaitable[T | None]]) -> T:
        while True:
            changed = self._changed()  # before looking, so that nothing is missed
            with suppress(Unreachable):
                if (found := await look()) is not None:
                    return found
            try:
                async with asyncio.timeout(REREAD_SECONDS):
                    await changed.wait()
            except TimeoutError:
                with suppress(Unreachable):
                    await self.refresh()

    async def refresh(self) -> None:
        """Read the hash again.

        It is believed even where it is older than what was known: then Redis has lost
        its newest writes, and versions will be used again.

        Raises:
            InvalidState: the fetch is no longer retained.
        """
        before = self._state
        fields: dict[bytes, bytes] = await self._owner.connection.ask(
            "HGETALL", self._keys.fetch
        )
        state = FetchState.found(fields)
        if state is None:
            self._listening.discard(self)
            raise InvalidState(f"background fetch {self.id!r} is no longer retained")
        if state.version < before.version and self._state is before:
            self._take(state)
        else:
            self.update(state)

    def update(self, state: FetchState) -> None:
        """Take a newer state and tell listeners (§ update instances)."""
        if state.version > self._state.version:
            self._take(state)

    def _take(self, state: FetchState) -> None:
        before, self._state = self._state, state
        # Ended instances hear nothing, equal values are no event (BF-PROG-05, -06).
        # Nor is a pause: nothing of what the specification names has changed.
        same = replace(state.progress, paused=before.paused) == before.progress
        if before.result is Result.ACTIVE and not same:
            self._dispatch()
        if self._next is not None:
            self._next.set()
            self._next = None

    def _changed(self) -> asyncio.Event:
        """What is set with the next update."""
        if self._next is None:
            self._next = asyncio.Event()
        return self._next
