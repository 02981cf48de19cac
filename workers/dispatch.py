"""One delivery in a subscriber's process: begin, call listeners, conclude (§ fire).

Redis may be away meanwhile: a begin is repeated under its nonce, and what a listener
has brought to its end is acknowledged as soon as Redis is back.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog

from broker.deliveries import Begun, Delivery, Refused, new_nonce
from broker.holding import Nack, backoff
from broker.manager import BackgroundFetchManager
from broker.quarantine import Quarantine
from broker.settings import Settings
from broker.stream import Subscription
from schemas.errors import Failure, InvalidMessage, NewerMessage
from schemas.events import EventMessage, EventType
from workers.answers import answered
from workers.clients import ACTIVATION, Activation
from workers.events import Lifetime, event_class
from workers.service_worker import ServiceWorker
from workers.threads import Threads

log = structlog.get_logger()

NEWER_LEASES = 3
"""Lease times that an event for a later release waits for another process."""

_OUTCOMES = {Nack.WAITING: "failed", Nack.DEAD: "dead", Nack.STALE: "lost"}

Observer = Callable[[str, Begun], object]
"""Hears what became of a delivery: began, acked, failed, dead, lost, handed back."""


class Dispatcher:
    """Handles the deliveries of one process, a bounded number at a time."""

    def __init__(
        self,
        service_worker: ServiceWorker,
        manager: BackgroundFetchManager,
        subscription: Subscription,
        settings: Settings,
        observer: Observer,
    ) -> None:
        self._worker = service_worker
        self._manager = manager
        self._subscription = subscription
        self._settings = settings
        self._observer = observer
        self._free = asyncio.Semaphore(settings.handlers)
        self._threads = Threads(settings.handlers)
        self._lock = threading.Lock()
        self._held: dict[str, tuple[Begun, Lifetime]] = {}
        self._clock = asyncio.get_running_loop().time
        self._random = random.Random()
        self._quarantine = Quarantine(
            manager.connection, settings, subscription.scope, subscription.subscriber
        )
        self._newer_delay = NEWER_LEASES * settings.lease
        self._warned: set[str] = set()
        self._closing = False

    def close(self) -> None:
        """Begin nothing more; what was not begun is others'."""
        self._closing = True

    def held(self) -> list[Begun]:
        """What this process works on and may keep. May be called from any thread.

        A loop that is blocked cannot end what is past its cap; not extended any more,
        it fails when its lease ends (R24).
        """
        now = self._clock()
        with self._lock:
            return [
                begun
                for begun, lifetime in self._held.values()
                if now < lifetime.deadline
            ]

    def lose(self, begun: Begun) -> None:
        """Another process has the delivery: its event here is inactive at once.

        One whose promises have settled was perhaps acknowledged before its lease was
        to be extended; the answer to that says what came of it. Nor is the next
        attempt here lost with the one before.
        """
        held, lifetime = self._held.get(begun.delivery.member, (None, None))
        if held is begun and lifetime is not None and lifetime.active:
            log.warning("delivery_lost", delivery=begun.delivery.delivery_id)
            lifetime.end()

    async def handle(
        self, entry: str, message: bytes, nonce: str | None = None
    ) -> None:
        """Bring one entry of the stream to its conclusion, or leave it to others.

        It is begun under ``nonce``, unless it was; by default nobody else has that.
        """
        nonce = nonce or new_nonce()
        try:
            decoded = EventMessage.decode(message)
        except NewerMessage as error:
            await self._leave_to_newer(entry, str(error))
            return
        except InvalidMessage as error:
            log.error("event_unreadable", entry=entry, error=str(error))
            aside = partial(self._quarantine.put_aside, entry, str(error), nonce)
            await answered(aside)
            return
        delivery = Delivery(entry, decoded, self._subscription.subscriber)
        async with self._free:
            if not self._closing:
                await self._hold(delivery, nonce)

    async def _leave_to_newer(self, entry: str, why: str) -> None:
        """Hand an event back uncounted."""
        self._warn_once(entry, why)
        hand_back = partial(self._quarantine.hand_back, entry, self._newer_delay)
        if not await answered(hand_back):
            await answered(partial(self._quarantine.put_aside, entry, why))

    def _warn_once(self, entry: str, why: str) -> None:
        if why not in self._warned:
            self._warned.add(why)
            log.warning("event_for_later_release", entry=entry, error=why)

    async def handle_begun(self, begun: Begun) -> None:
        """Bring a delivery that this process holds to its conclusion."""
        async with self._free:
            await self._hold(begun.delivery, begun.nonce, begun)

    async def _hold(
        self, delivery: Delivery, nonce: str, begun: Begun | Refused | None = None
    ) -> None:
        """Begin a delivery and handle it; cancelled, hand it back (R20)."""
        try:
            begun = begun or await answered(
                partial(self._subscription.begin, delivery, nonce)
            )
            if isinstance(begun, Begun):
                await self._handle(begun)
        except asyncio.CancelledError:
            with suppress(Failure):
                await self._subscription.hand_back(delivery, nonce)
            if isinstance(begun, Begun):
                self._observer("handed back", begun)
            raise
        except InvalidMessage as error:  # the registration, of a later release
            self._warn_once(delivery.entry, str(error))
            back = partial(self._subscription.hand_back, delivery, nonce)
            await answered(partial(back, self._newer_delay))
        except Failure as error:  # its lease ends, and it comes again
            log.warning("delivery_interrupted", entry=delivery.entry, error=str(error))

    async def _handle(self, begun: Begun) -> None:
        lifetime = Lifetime(self._settings.max_lifetime)
        member = begun.delivery.member
        with self._lock:
            self._held[member] = (begun, lifetime)
        self._observer("began", begun)
        try:
            errors = await self._capped(begun, lifetime)
            await self._conclude(begun, errors)
        except asyncio.CancelledError:
            lifetime.end()
            raise
        finally:
            with self._lock:
                self._held.pop(member, None)

    async def _capped(self, begun: Begun, lifetime: Lifetime) -> list[BaseException]:
        """Dispatch; at the cap the event is inactive and its delivery fails (R24).

        What ignores its cancellation, as a thread does, is not waited for.
        """
        most = self._settings.max_lifetime
        if most is None:
            return await self._dispatch(begun, lifetime)
        cap = asyncio.timeout_at(lifetime.deadline)
        try:
            async with cap:
                return await self._dispatch(begun, lifetime)
        except TimeoutError:
            if not cap.expired():
                raise
        lifetime.end()
        return [TimeoutError(f"not handled within max_lifetime ({most})")]

    async def _dispatch(self, begun: Begun, lifetime: Lifetime) -> list[BaseException]:
        """Call every listener in order; one that raises does not stop the others."""
        message = begun.delivery.message
        event = event_class(message.type)(
            message.type,
            registration=self._manager.registration(begun.state),
            time_stamp=float(message.time_stamp),
            delivery_id=begun.delivery.delivery_id,
            attempt=begun.attempt,
            _lifetime=lifetime,
            _steps=self._subscription.steps(begun),
        )
        if message.type is EventType.CLICK:
            ACTIVATION.set(Activation(event, message.event))
        raised: list[BaseException] = []
        for listener in self._worker.listeners(message.type):
            try:
                if inspect.iscoroutinefunction(listener):
                    lifetime.extend(listener(event))
                else:
                    returned = await self._threads.run(partial(listener, event))
                    if inspect.isawaitable(returned):
                        lifetime.extend(returned)
            except (Exception, SystemExit) as error:
                log.exception("listener_raised", delivery=event.delivery_id)
                raised.append(error)
        lifetime.dispatched()
        return raised + await lifetime.over()

    async def _conclude(self, begun: Begun, errors: list[BaseException]) -> None:
        """Acknowledge what has settled; let what was rejected come again (§7)."""
        name = begun.delivery.delivery_id
        if not errors:
            acked = await answered(partial(self._subscription.ack, begun))
            self._observer("acked" if acked else "lost", begun)
            if not acked:
                log.warning("acknowledged_too_late", delivery=name)
            return
        reason = "; ".join(f"{type(error).__name__}: {error}" for error in errors)
        delay = self._backoff(begun.failures)
        nack = partial(self._subscription.nack, failed=True, delay=delay, reason=reason)
        verdict = await answered(partial(nack, begun))
        self._observer(_OUTCOMES[verdict], begun)
        log.warning(
            "delivery_failed",
            delivery=name,
            attempt=begun.attempt,
            reason=reason,
            verdict=str(verdict),
        )

    def _backoff(self, failures: int) -> timedelta:
        """Exponential, with jitter so that what failed together returns apart."""
        return backoff(self._settings, failures) * self._random.uniform(0.5, 1.0)
