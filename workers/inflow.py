"""What a subscriber's process takes: as much as it can handle, due or new.

What is due for another attempt takes turns with what is new. Otherwise a process that
always has more to read would never come to what failed, or was a dead one's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import structlog

from broker.deliveries import Begun, Rows
from broker.stream import Subscription
from broker.tasks import cancel_all
from schemas.errors import Failure, InvalidState, QuotaExceeded

log = structlog.get_logger()

BLOCK = timedelta(seconds=1)
READ_AT_ONCE = 100
PAUSE_SECONDS = 1.0
"""How long Redis is left alone after it did not answer."""
HAND_BACK_SECONDS = 5.0
"""How long what the grace has cut short may take to hand its deliveries back."""


class Handler(Protocol):
    """Brings deliveries to their conclusion."""

    async def handle(
        self, entry: str, message: bytes, nonce: str | None = None
    ) -> None:
        """Begin an entry, under this nonce or one of its own, and handle it."""

    async def handle_begun(self, begun: Begun) -> None:
        """Handle what this process holds."""


class Inflow:
    """Entries of the stream at work in this process, and where more come from."""

    def __init__(
        self, subscription: Subscription, handler: Handler, handlers: int
    ) -> None:
        self._subscription = subscription
        self._handler = handler
        self._handlers = handlers
        self._tasks: set[asyncio.Task[None]] = set()
        self._entries: set[str] = set()
        self._freed = asyncio.Event()
        self._due_now = self._due_next = False
        self.removed = False
        """Whether somebody removed the subscriber; then nothing more comes (R21)."""

    @property
    def entries(self) -> Collection[str]:
        """Those at work here."""
        return self._entries

    async def run(self) -> None:
        """Take what comes, until cancelled or somebody removes the subscriber (R21)."""
        answer_lost = False
        while True:
            try:
                if answer_lost:
                    await self._subscription.join(again=True)
                    answer_lost = False
                await self._take_turn()
            except (Failure, QuotaExceeded) as error:
                log.warning("subscriber_waits_for_redis", error=str(error))
                answer_lost = True
                await asyncio.sleep(PAUSE_SECONDS)
                await self._subscription.reconnect()
            except InvalidState as error:
                log.error("subscriber_removed", error=str(error))
                self.removed = True
                return

    async def _take_turn(self) -> None:
        """Collect what is due, if that had little room, or be handed what is new.

        What cannot be handled here is left for other processes; Redis hears all the
        same that the last events came.
        """
        room = min(self._room(), READ_AT_ONCE)
        if room and self._due_now:
            self._due_now = False
            rows = await self._subscription.collect(room)
            self._due_next = len(rows) == room
            self.admit(rows)
            return
        if room:
            self._due_now, self._due_next = self._due_next, False
        received = await self._subscription.receive(room, BLOCK)
        for begun in received.begun:
            self._start(begun.delivery.entry, self._handler.handle_begun(begun))
        self.admit(received.rows, received.nonce)
        if not room:
            await self._free()

    async def _free(self) -> None:
        """Wait until another delivery can be handled."""
        while self._room() < 1:
            self._freed.clear()
            await self._freed.wait()

    def room_for_due(self) -> int:
        """How many more can be handled; if few, the next turn is that of the due."""
        room = self._room()
        if room < self._handlers / 2:
            self._due_now = True
        return room

    def _room(self) -> int:
        return max(0, self._handlers - len(self._tasks))

    def admit(self, rows: Rows, nonce: str | None = None) -> None:
        """Handle entries that are not at work here; such a one is found stranded."""
        for entry, message in rows:
            if entry not in self._entries:
                self._start(entry, self._handler.handle(entry, message, nonce))

    def _start(self, entry: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._entries.add(entry)
        task.add_done_callback(partial(self._ended, entry))

    def _ended(self, entry: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._entries.discard(entry)
        self._freed.set()

    async def drain(self, grace: timedelta) -> None:
        """Give running listeners the grace, then hand their deliveries back (R20)."""
        if self._tasks:
            log.info("draining", deliveries=len(self._tasks))
            await asyncio.wait(self._tasks, timeout=grace.total_seconds())
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # a second cancellation would stop them from handing back
            await asyncio.wait(self._tasks, timeout=HAND_BACK_SECONDS)
        await cancel_all(self._tasks)
