"""Runs a ``ServiceWorker``: reads its events, calls its listeners, acknowledges.

A delivery is acknowledged when the promises of its event have settled, and fails when
one of them was rejected; until then its lease is extended. Whoever dies loses it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import structlog

from broker.manager import BackgroundFetchManager, connect
from broker.settings import Settings
from broker.stream import Begun, Delivery, Nack, Refused, Subscription
from schemas.errors import Failure, InvalidMessage
from schemas.events import EventMessage, EventType
from workers.clients import ACTIVATION, Activation
from workers.events import Lifetime, event_class
from workers.housekeeping import Housekeeping
from workers.keeper import Keeper
from workers.service_worker import Listener, ServiceWorker

log = structlog.get_logger()

BLOCK = timedelta(seconds=1)
Observer = Callable[[str, Begun], object]


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
        """``observer`` hears what became of each delivery: ``began``, ``acked``, …"""
        self._worker = service_worker
        self._settings = settings
        self._redis_url = redis_url
        self._observer = observer or (lambda outcome, begun: None)
        self._stopping = asyncio.Event()
        self._free = asyncio.Semaphore(settings.handlers)
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Begun, Lifetime]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._random = random.Random()

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
            )
            await subscription.join()
            await self._serve(manager, subscription)

    async def _serve(
        self, manager: BackgroundFetchManager, subscription: Subscription
    ) -> None:
        loop = asyncio.get_running_loop()
        keeper = Keeper(
            manager.connection.url,
            self._settings,
            subscription,
            self._holding,
            lambda delivery: loop.call_soon_threadsafe(self._lose, delivery),
        )
        keeper.start()
        housekeeping = Housekeeping(manager, subscription, self._settings)
        log.info("subscribed", scope=self._worker.scope, subscriber=self._worker.name)
        reading = asyncio.create_task(self._read(manager, subscription))
        keeping = asyncio.create_task(
            housekeeping.run(lambda rows: self._admit(manager, subscription, rows))
        )
        try:
            await self._stopping.wait()
        finally:
            for task in (reading, keeping):
                task.cancel()
            await asyncio.gather(reading, keeping, return_exceptions=True)
            await self._drain()
            await asyncio.to_thread(keeper.stop)
            with suppress(Failure):
                await subscription.bury(subscription.consumer, leaving=True)
            await subscription.aclose()

    def _holding(self) -> list[Begun]:
        with self._lock:
            return [begun for begun, _ in self._held.values()]

    def _lose(self, delivery: str) -> None:
        """Another process has the delivery: its event here is inactive at once."""
        held = self._held.get(delivery)
        if held is not None:
            log.warning("delivery_lost", delivery=held[0].delivery.delivery_id)
            held[1].end()

    async def _read(
        self, manager: BackgroundFetchManager, subscription: Subscription
    ) -> None:
        lost_answer = False
        while True:
            try:
                if lost_answer:
                    await subscription.join()
                    self._admit(manager, subscription, await subscription.pending())
                    lost_answer = False
                await self._free.acquire()
                self._free.release()
                count = max(1, self._settings.handlers - len(self._tasks))
                rows = await subscription.read(min(count, 100), BLOCK)
                self._admit(manager, subscription, rows)
            except Failure as error:
                log.warning("subscriber_waits_for_redis", error=str(error))
                lost_answer = True
                await asyncio.sleep(1)

    def _admit(
        self,
        manager: BackgroundFetchManager,
        subscription: Subscription,
        rows: list[tuple[str, bytes]],
    ) -> None:
        for entry, message in rows:
            task = asyncio.create_task(
                self._receive(manager, subscription, entry, message)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _receive(
        self,
        manager: BackgroundFetchManager,
        subscription: Subscription,
        entry: str,
        message: bytes,
    ) -> None:
        try:
            decoded = EventMessage.decode(message)
        except InvalidMessage as error:
            log.error("event_unreadable", entry=entry, error=str(error))
            with suppress(Failure):
                await subscription.quarantine(entry, str(error))
            return
        delivery = Delivery(entry, decoded, subscription.subscriber)
        async with self._free:
            if delivery.member in self._held:
                return
            try:
                begun = await subscription.begin(delivery)
                if not isinstance(begun, Refused):
                    await self._handle(manager, subscription, begun)
            except Failure as error:  # its lease ends, and it comes again
                log.warning("delivery_interrupted", entry=entry, error=str(error))

    async def _handle(
        self,
        manager: BackgroundFetchManager,
        subscription: Subscription,
        begun: Begun,
    ) -> None:
        lifetime = Lifetime()
        member = begun.delivery.member
        with self._lock:
            self._held[member] = (begun, lifetime)
        self._observer("began", begun)
        try:
            errors = await self._dispatch(manager, begun, lifetime)
            await self._conclude(subscription, begun, errors)
        except asyncio.CancelledError:
            lifetime.end()
            with suppress(Failure):
                await subscription.nack(
                    begun, failed=False, delay=timedelta(0), reason="handed back"
                )
            self._observer("handed back", begun)
            raise
        finally:
            with self._lock:
                self._held.pop(member, None)

    async def _dispatch(
        self, manager: BackgroundFetchManager, begun: Begun, lifetime: Lifetime
    ) -> list[BaseException]:
        """Call every listener in order; one that raises does not stop the others."""
        message = begun.delivery.message
        event = event_class(message.type)(
            message.type,
            registration=manager.registration(begun.state),
            time_stamp=float(message.time_stamp),
            delivery_id=begun.delivery.delivery_id,
            attempt=begun.attempt,
            _lifetime=lifetime,
        )
        if message.type is EventType.CLICK:
            ACTIVATION.set(Activation(event, message.event))
        raised: list[BaseException] = []
        for listener in self._worker.listeners(message.type):
            try:
                if inspect.iscoroutinefunction(listener):
                    lifetime.extend(listener(event))
                else:
                    await _in_thread(listener, event, lifetime)
            except Exception as error:
                log.exception("listener_raised", delivery=begun.delivery.delivery_id)
                raised.append(error)
        lifetime.dispatched()
        return raised + await lifetime.over()

    async def _conclude(
        self, subscription: Subscription, begun: Begun, errors: list[BaseException]
    ) -> None:
        name = begun.delivery.delivery_id
        if not errors:
            acked = await subscription.ack(begun)
            self._observer("acked" if acked else "lost", begun)
            if not acked:
                log.warning("acknowledged_too_late", delivery=name)
            return
        reason = "; ".join(f"{type(error).__name__}: {error}" for error in errors)
        verdict = await subscription.nack(
            begun, failed=True, delay=self._backoff(begun.failures), reason=reason
        )
        self._observer("dead" if verdict is Nack.DEAD else "failed", begun)
        log.warning(
            "delivery_failed", delivery=name, attempt=begun.attempt, reason=reason,
            verdict=str(verdict),
        )  # fmt: skip

    def _backoff(self, failures: int) -> timedelta:
        """Exponential, with jitter so that what failed together returns apart."""
        settings = self._settings
        longest = min(
            settings.redelivery_backoff * int(2 ** min(failures, 30)),
            settings.max_redelivery_backoff,
        )
        return longest * self._random.uniform(0.5, 1.0)

    async def _drain(self) -> None:
        """Give running listeners the grace, then hand their deliveries back (R20)."""
        if self._tasks:
            log.info("draining", deliveries=len(self._tasks))
            await asyncio.wait(
                self._tasks, timeout=self._settings.grace.total_seconds()
            )
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _in_thread(listener: Listener, event: object, lifetime: Lifetime) -> None:
    """Run a plain listener beside the loop, with this task's context."""
    context = contextvars.copy_context()
    returned = await asyncio.to_thread(context.run, listener, event)
    if inspect.isawaitable(returned):
        lifetime.extend(returned)


def run(runtime: Runtime) -> None:
    """Run a process of a subscriber until TERM or INT; a second one ends it at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, _stop, runtime, name)
        await runtime.run()

    asyncio.run(main())


def _stop(runtime: Runtime, name: signal.Signals) -> None:
    signal.signal(name, signal.SIG_DFL)
    asyncio.get_running_loop().remove_signal_handler(name)
    runtime.stop()
