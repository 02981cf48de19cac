"""Events as listeners see them: ``ExtendableEvent`` and its heirs (§ Events).

An event is *active* while it is being dispatched or promises given to ``wait_until``
are pending, and it has not timed out (Service Workers § extendable event).
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Iterable, Mapping
from datetime import timedelta

from broker.registration import BackgroundFetchRegistration
from broker.steps import Steps
from schemas.errors import InvalidState
from schemas.events import EventType
from schemas.names import check_step
from schemas.options import ImageResource
from workers.once import Once


class Lifetime:
    """How long one delivered event lives; the runtime's half of ``wait_until``.

    Made on the event loop; ``extend`` may be called from a listener's thread.
    """

    def __init__(self, cap: timedelta | None = None) -> None:
        """Without a ``cap`` it may last for ever (R24)."""
        self.loop = asyncio.get_running_loop()
        """Where it was made."""
        self.deadline = self.loop.time() + (cap.total_seconds() if cap else math.inf)
        """When it ends at the latest, by the event loop's clock."""
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._pending = 0
        self._dispatching = True
        self._timed_out = False
        self._tasks: set[asyncio.Future[object]] = set()
        self._errors: list[BaseException] = []
        self._over: asyncio.Future[None] | None = None

    @property
    def active(self) -> bool:
        """Whether ``wait_until`` may still be called (BF-WAIT-03)."""
        return not self._timed_out and (self._dispatching or self._pending > 0)

    def extend(self, awaitable: Awaitable[object]) -> None:
        """Keep the event alive until ``awaitable`` has settled."""
        with self._lock:
            if not self.active:
                raise InvalidState("the event is no longer active")
            self._pending += 1
        if threading.get_ident() == self._thread:
            self._watch(awaitable)
        else:
            self.loop.call_soon_threadsafe(self._watch, awaitable)

    def _watch(self, awaitable: Awaitable[object]) -> None:
        future = asyncio.ensure_future(awaitable)
        self._tasks.add(future)
        future.add_done_callback(self._settle)

    def _settle(self, future: asyncio.Future[object]) -> None:
        self._tasks.discard(future)
        if future.cancelled():
            self._errors.append(asyncio.CancelledError("the promise was cancelled"))
        elif (error := future.exception()) is not None:
            self._errors.append(error)
        with self._lock:
            self._pending -= 1
        self._check()

    def dispatched(self) -> None:
        """Every listener was called; from now on only promises keep the event."""
        self._dispatching = False
        self._check()

    def _check(self) -> None:
        if self._over and not self._over.done() and self._is_over():
            self._over.set_result(None)

    def _is_over(self) -> bool:
        return not self._dispatching and self._pending == 0

    def end(self) -> None:
        """Time out: the event is inactive at once, its promises are cancelled."""
        self._timed_out = True
        for task in self._tasks:
            task.cancel()

    async def over(self) -> list[BaseException]:
        """Return once no promise is pending, with what went wrong in order."""
        if not self._is_over():
            self._over = self.loop.create_future()
            await self._over
        return self._errors


class ExtendableEvent:
    """An event whose end listeners can put off with ``wait_until``."""

    def __init__(
        self, type: str, *, time_stamp: float = 0.0, _lifetime: Lifetime | None = None
    ) -> None:
        self._type = type
        self._time_stamp = time_stamp
        self._lifetime = _lifetime

    @property
    def type(self) -> str:
        """The event's name, as ``backgroundfetchsuccess``."""
        return self._type

    @property
    def time_stamp(self) -> float:
        """When it was published: milliseconds since the epoch, by Redis's clock."""
        return self._time_stamp

    @property
    def is_trusted(self) -> bool:
        """True if it was delivered, False if a program made it (BF-EVT-10)."""
        return self._lifetime is not None

    def wait_until(self, awaitable: Awaitable[object]) -> None:
        """Keep the event, and so its delivery, until ``awaitable`` has settled.

        A rejection makes the delivery fail; it comes again later.

        Raises:
            InvalidState: the event is not trusted, or no longer active.
        """
        try:
            self._alive("wait_until").extend(awaitable)
        except InvalidState:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()
            raise

    def _alive(self, call: str) -> Lifetime:
        if self._lifetime is None:
            raise InvalidState(f"{call}() on an event that was not delivered")
        if not self._lifetime.active:
            raise InvalidState(f"{call}() on an event that is no longer active")
        return self._lifetime


class BackgroundFetchEvent(ExtendableEvent):
    """Something happened to a background fetch (§ BackgroundFetchEvent)."""

    def __init__(
        self,
        type: str,
        *,
        registration: BackgroundFetchRegistration,
        time_stamp: float = 0.0,
        delivery_id: str = "",
        attempt: int = 0,
        _lifetime: Lifetime | None = None,
        _steps: Steps | None = None,
    ) -> None:
        super().__init__(type, time_stamp=time_stamp, _lifetime=_lifetime)
        self._steps = _steps
        self._entered: set[str] = set()
        self._registration = registration
        self._delivery_id = delivery_id
        self._attempt = attempt

    @property
    def registration(self) -> BackgroundFetchRegistration:
        """The background fetch that the event is about."""
        return self._registration

    @property
    def delivery_id(self) -> str:
        """The same for every attempt to deliver it: what makes a handler idempotent."""
        return self._delivery_id

    @property
    def attempt(self) -> int:
        """1 for the first delivery, then 2, …; 0 for an event that a program made."""
        return self._attempt

    def once(self, step: str = "handled") -> Once:
        """Return a block that is completed once for all attempts of this delivery.

        ``async with event.once() as first:``, in a plain listener ``with``. ``first``
        is False if an attempt, in whichever process, has completed the block. A block
        that raises, or whose process dies in it, is not completed. A handler with
        several effects gives each a ``step`` of its own. Waits for a Redis that is
        away.

        Raises:
            InvalidState: the event is not trusted or not active, or has such a step
                already. From the block: another process has the delivery.
            InvalidName: ``step`` has not the form of a subscriber's name.
        """
        lifetime = self._alive("once")
        assert self._steps is not None
        if check_step(step) in self._entered:
            raise InvalidState(
                f"once({step!r}) is used twice for one event: name each step"
            )
        self._entered.add(step)
        return Once(self._steps, step, lifetime.loop)


class BackgroundFetchUpdateUIEvent(BackgroundFetchEvent):
    """A fetch succeeded or failed; its display can be changed, once (BF-UPD-01)."""

    _updated = False

    async def update_ui(
        self,
        *,
        title: str | None = None,
        icons: Iterable[ImageResource | Mapping[str, str]] | None = None,
    ) -> None:
        """Change the title or icons that people see; None leaves one as it is.

        Raises:
            InvalidState: the event is not trusted or not active, or this is the
                second call, whatever the first came to (BF-UPD-02).
            InvalidOptions: ``title`` or ``icons`` have the wrong form.
        """
        self._alive("update_ui")
        if self._updated:
            raise InvalidState("update_ui() may be called once for each event")
        self._updated = True
        await self.registration.present(title=title, icons=icons)


def event_class(type: EventType) -> type[BackgroundFetchEvent]:
    """The class with which events of this type are delivered (BF-IDL-17)."""
    if type in (EventType.SUCCESS, EventType.FAIL):
        return BackgroundFetchUpdateUIEvent
    return BackgroundFetchEvent
