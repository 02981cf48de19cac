"""Runs a ``ServiceWorker``: reads its events, and sees that each is acknowledged.

A delivery is acknowledged when the promises of its event have settled, and fails when
one of them was rejected; until then its lease is extended. Whoever dies loses it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog

from broker.agenda import Agenda
from broker.manager import BackgroundFetchManager, connect
from broker.processes import Process, Role
from broker.settings import Settings
from broker.signals import on_first_signal
from broker.store import BlobStore
from broker.stream import Begun, Subscription
from broker.tasks import cancel_all
from schemas.errors import (
    ConfigError,
    Failure,
    InvalidState,
    QuotaExceeded,
    StorageError,
)
from workers.beat import beat_for_ever
from workers.dispatch import Dispatcher, Observer
from workers.housekeeping import Housekeeping
from workers.keeper import Keeper
from workers.reclaim import Reclaimer
from workers.service_worker import ServiceWorker

log = structlog.get_logger()

BLOCK = timedelta(seconds=1)
READ_AT_ONCE = 100
HEAD_START = 3
"""Turns of the loop in which what was read is sent to begin; the next read waits."""
PAUSE_SECONDS = 1.0
"""How long Redis is left alone after it did not answer."""
HAND_BACK_SECONDS = 5.0
"""How long what the grace has cut short may take to hand its deliveries back."""


class Runtime:
    """One process of a subscriber."""

    def __init__(
        self,
        service_worker: ServiceWorker,
        settings: Settings,
        *,
        redis_url: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        """``observer`` hears what became of each delivery."""
        self._worker = service_worker
        self._settings = settings
        self._redis_url = redis_url
        self._observer = observer or _ignore
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._entries: set[str] = set()
        self._freed = asyncio.Event()

    def stop(self) -> None:
        """Take no more events; running listeners have the grace to end."""
        self._stopping.set()

    async def run(self) -> None:
        """Handle events until stopped; reconnects to Redis by itself.

        Raises:
            Unreachable: Redis does not answer at the start.
        """
        async with connect(
            self._redis_url, scope=self._worker.scope, settings=self._settings
        ) as manager:
            subscription = Subscription(
                manager.connection,
                self._settings,
                self._worker.scope,
                self._worker.name,
                takes=self._worker.takes,
                start=self._worker.start,
            )
            await subscription.join()
            try:
                await self._serve(manager, subscription)
            finally:
                with suppress(Failure):
                    await subscription.bury(subscription.consumer, leaving=True)
                await subscription.aclose()

    async def _serve(
        self, manager: BackgroundFetchManager, subscription: Subscription
    ) -> None:
        dispatcher = Dispatcher(
            self._worker, manager, subscription, self._settings, self._observer
        )
        keeper = Keeper(
            manager.connection.url,
            self._settings,
            subscription,
            held=dispatcher.held,
            lost=_on_loop(dispatcher),
        )
        housekeeping = Housekeeping(manager, subscription, self._settings)
        reclaimer = Reclaimer(
            Agenda(manager.connection, self._settings),
            manager.queue,
            await _store(manager),
            self._settings,
        )
        keeper.start()
        log.info("subscribed", scope=self._worker.scope, subscriber=self._worker.name)
        background = [
            asyncio.create_task(self._read(subscription, dispatcher)),
            asyncio.create_task(
                housekeeping.run(
                    self._entries, self._room, partial(self._admit, dispatcher)
                )
            ),
            asyncio.create_task(reclaimer.run()),
            asyncio.create_task(
                beat_for_ever(
                    manager.connection, _process(subscription), self._settings.lease
                )
            ),
        ]
        try:
            await self._until_stopped(background)
        finally:
            await cancel_all(background)
            dispatcher.close()
            await self._drain()
            await asyncio.to_thread(keeper.stop)

    async def _until_stopped(self, background: list[asyncio.Task[None]]) -> None:
        """Return when stopped; a process that lives but is deaf would be the worst."""
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([stopped, *background], return_when="FIRST_COMPLETED")
            for task in background:
                if task.done():
                    task.result()
        finally:
            await cancel_all([stopped])

    async def _read(self, subscription: Subscription, dispatcher: Dispatcher) -> None:
        answer_lost = False
        while True:
            try:
                if answer_lost:
                    await subscription.join(again=True)
                    self._admit(dispatcher, await subscription.pending())
                    answer_lost = False
                free = await self._free()
                rows = await subscription.read(min(free, READ_AT_ONCE), BLOCK)
                self._admit(dispatcher, rows)
                for _ in range(HEAD_START):
                    await asyncio.sleep(0)
            except (Failure, QuotaExceeded) as error:
                log.warning("subscriber_waits_for_redis", error=str(error))
                answer_lost = True
                await asyncio.sleep(PAUSE_SECONDS)
                await subscription.reconnect()
            except InvalidState as error:  # somebody removed the subscriber (R21)
                log.error("subscriber_removed", error=str(error))
                self.stop()
                return

    async def _free(self) -> int:
        """Wait until another delivery can be handled; return how many can.

        What cannot be handled here is left for other processes to read.
        """
        while (room := self._room()) < 1:
            self._freed.clear()
            await self._freed.wait()
        return room

    def _room(self) -> int:
        """How many more deliveries can be handled."""
        return max(0, self._settings.handlers - len(self._tasks))

    def _admit(self, dispatcher: Dispatcher, rows: list[tuple[str, bytes]]) -> None:
        """Handle entries that are not at work here; such a one is found stranded."""
        for entry, message in rows:
            if entry in self._entries:
                continue
            task = asyncio.create_task(dispatcher.handle(entry, message))
            self._tasks.add(task)
            self._entries.add(entry)
            task.add_done_callback(partial(self._ended, entry))

    def _ended(self, entry: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._entries.discard(entry)
        self._freed.set()

    async def _drain(self) -> None:
        """Give running listeners the grace, then hand their deliveries back (R20)."""
        if self._tasks:
            log.info("draining", deliveries=len(self._tasks))
            await asyncio.wait(
                self._tasks, timeout=self._settings.grace.total_seconds()
            )
        for task in self._tasks:
            task.cancel()
        if self._tasks:  # a second cancellation would stop them from handing back
            await asyncio.wait(self._tasks, timeout=HAND_BACK_SECONDS)
        await cancel_all(self._tasks)


def run(runtime: Runtime) -> None:
    """Run a process of a subscriber until TERM or INT; a second one ends it at once."""

    async def main() -> None:
        on_first_signal((signal.SIGTERM, signal.SIGINT), lambda _: runtime.stop())
        await runtime.run()

    asyncio.run(main())


def _on_loop(dispatcher: Dispatcher) -> Callable[[Begun], object]:
    """``dispatcher.lose`` for the keeper's thread."""
    loop = asyncio.get_running_loop()
    return lambda begun: loop.call_soon_threadsafe(dispatcher.lose, begun)


def _process(subscription: Subscription) -> Process:
    member = f"{subscription.scope}/{subscription.subscriber}"
    return Process(Role.SUBSCRIBER, subscription.consumer, member)


async def _store(manager: BackgroundFetchManager) -> BlobStore | None:
    """The blob store, for a subscriber that shares it with the workers."""
    try:
        return await manager.reader.open()
    except (ConfigError, StorageError):
        return None


def _ignore(outcome: str, begun: Begun) -> None:
    """Observe nothing."""
