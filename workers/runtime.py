"""Runs a ``ServiceWorker``: reads its events, and sees that each is acknowledged.

A delivery is acknowledged when the promises of its event have settled, and fails when
one of them was rejected; until then its lease is extended. Whoever dies loses it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress

import structlog

from broker.agenda import Agenda
from broker.deliveries import Begun
from broker.manager import BackgroundFetchManager, connect
from broker.processes import Process, Role
from broker.settings import Settings
from broker.signals import on_first_signal
from broker.store import BlobStore
from broker.stream import Subscription
from broker.tasks import cancel_all
from schemas.errors import (
    ConfigError,
    Failure,
    StorageError,
)
from workers.beat import beat_for_ever
from workers.dispatch import Dispatcher, Observer
from workers.housekeeping import Housekeeping
from workers.inflow import Inflow
from workers.keeper import Keeper
from workers.reclaim import Reclaimer
from workers.service_worker import ServiceWorker

log = structlog.get_logger()


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
                    await subscription.leave()
                await subscription.aclose()

    async def _serve(
        self, manager: BackgroundFetchManager, subscription: Subscription
    ) -> None:
        dispatcher = Dispatcher(
            self._worker, manager, subscription, self._settings, self._observer
        )
        inflow = Inflow(subscription, dispatcher, self._settings.handlers)
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
            asyncio.create_task(inflow.run()),
            asyncio.create_task(
                housekeeping.run(inflow.entries, inflow.room_for_due, inflow.admit)
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
            if inflow.removed:
                with suppress(Failure):
                    await housekeeping.forget()
            dispatcher.close()
            await inflow.drain(self._settings.grace)
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
