"""Makes the bytes of open records resumable, every few seconds (R5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

from broker.store import BlobStore
from broker.tasks import cancel_all
from schemas.errors import StorageError
from workers.work import Work


class Checkpoints:
    """The checkpoints of one lane, until it ends.

    Most lanes end before the first is due: until then there is a timer and no task.
    """

    def __init__(
        self,
        works: Callable[[], Iterable[Work]],
        store: BlobStore,
        interval: timedelta,
    ) -> None:
        """``works`` gives the records that are open."""
        self._works = works
        self._store = store
        self._seconds = interval.total_seconds()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Have the first made when an interval is over."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._begin)

    async def stop(self) -> None:
        """Return when none is made any more."""
        self._timer.cancel()
        if self._task is not None:
            await cancel_all([self._task])

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._make_for_ever())

    async def _make_for_ever(self) -> None:
        while True:
            await self._make()
            await asyncio.sleep(self._seconds)

    async def _make(self) -> None:
        store = self._store
        due = [work for work in self._works() if work.unsaved >= store.worth]
        # A disk has one thing to do at a time; a network takes its time for each.
        together = len(due) if store.remote else 1
        for at in range(0, len(due), together or 1):
            some = due[at : at + together]
            await asyncio.gather(*(_make(work) for work in some))


async def _make(work: Work) -> None:
    with suppress(StorageError):  # the next write tells the record
        await work.make_checkpoint()
