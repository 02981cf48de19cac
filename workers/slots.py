"""How many exchanges run at a time: in all, and with one origin.

libcurl has such limits, but its connect timeout runs while a transfer waits for them:
a busy origin would look unreachable.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from workers.origin_slots import ALL_TAKEN, OriginBusy, OriginSlots, Slot, Waiter

SPARE_SECONDS = 0.1
"""How often is looked for a slot that nobody else wants."""


class Slots:
    """Hands out slots with origins: first come, first served by each.

    Without ``stirred`` every origin has ``per_origin`` of them. With it, somebody else
    grants them, who is called with each origin of which there is news.
    Who waits for longer than ``patience`` seconds is sent away.
    """

    def __init__(
        self,
        total: int,
        per_origin: int,
        *,
        patience: float = math.inf,
        stirred: Callable[[OriginSlots], None] | None = None,
    ) -> None:
        self.origins: dict[str, OriginSlots] = {}
        self._total = total
        self._granted = per_origin if stirred is None else 0
        self._patience = patience
        self._stirred = stirred
        self._taken = 0
        self._lines: dict[str, OriginSlots] = {}
        """The origins with a line; the one that was served last is the last."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def take(self, origin: str) -> Slot | None:
        """Take a slot if there is one now, and nobody waits for it.

        Raises:
            OriginBusy: there is none for so long that it is better to come back.
        """
        own, now = self._own(origin), _now()
        if not own.line and self._taken < self._total and own.ready_at(now) <= now:
            return self._take(own, now)
        self._check_pause(own, now)
        return None

    def line_up(self, origin: str, waiter: Waiter) -> None:
        """Wait for a slot, behind those who wait already."""
        own = self._lines[origin] = self._own(origin)
        own.line.append(waiter)
        if self._stirred is not None and own.hungry():
            self._stirred(own)
        self._settle(own, _now())

    def leave(self, origin: str, waiter: Waiter) -> None:
        """Wait no more; harmless for one who does not wait."""
        own = self.origins.get(origin)
        if own is not None and waiter in own.line:
            own.line.remove(waiter)
            self._settle(own, _now())

    async def acquire(self, origin: str) -> Slot:
        """Return a slot, to be released.

        Raises:
            OriginBusy: there is none for so long that it is better to come back.
        """
        slot = self.take(origin)
        if slot is not None:
            return slot
        loop = asyncio.get_running_loop()
        waiter = _Caller(loop.create_future())
        self.line_up(origin, waiter)
        timer = None
        if self._patience < math.inf:
            busy = OriginBusy(timedelta(seconds=self._patience / 2), ALL_TAKEN)
            timer = loop.call_later(
                self._patience, self._send_away, origin, waiter, busy
            )
        try:
            return await waiter.slot
        except asyncio.CancelledError:
            self.leave(origin, waiter)
            waiter.cancelled()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def spare(self, origin: str) -> Slot:
        """Return a slot, to be released, once there is one that nobody waits for."""
        while True:
            with suppress(OriginBusy):
                slot = self.take(origin)
                if slot is not None:
                    return slot
            own = self._own(origin)
            own.spare += 1
            try:
                if self._stirred is not None and own.hungry():
                    self._stirred(own)
                await asyncio.sleep(SPARE_SECONDS)
            finally:
                own.spare -= 1

    def _send_away(self, origin: str, waiter: Waiter, busy: OriginBusy) -> None:
        self.leave(origin, waiter)
        waiter.refuse(busy)

    def serve(self, own: OriginSlots) -> None:
        """Hand out what has become free with one origin."""
        now = _now()
        while own.line and self._taken < self._total and own.ready_at(now) <= now:
            own.line.popleft().admit(self._take(own, now))
        if own.line and own.pause(now) > self._patience:
            waiting = list(own.line)
            own.line.clear()
            for waiter in waiting:
                waiter.refuse(self._paused(own, now))
        self._settle(own, now)

    def answered(self, origin: str) -> None:
        """Note a good answer, after which a lowered limit may rise."""
        self._own(origin).praise()

    def complained(self, origin: str, reason: str, pause: timedelta) -> None:
        """Lower the limit of an origin that cannot cope, and leave it alone so long."""
        own = self._own(origin)
        own.complain(reason, _now() + pause.total_seconds())
        if self._stirred is not None:
            self._stirred(own)
        self.serve(own)

    def forget(self, own: OriginSlots) -> None:
        """Drop what is known of an origin that nobody uses."""
        self._stop_timer(own)
        self.origins.pop(own.origin, None)

    def _own(self, origin: str) -> OriginSlots:
        own = self.origins.get(origin)
        if own is None:
            own = self.origins[origin] = OriginSlots(origin, self._granted)
        return own

    def _check_pause(self, own: OriginSlots, now: float) -> None:
        if own.pause(now) > self._patience:
            raise self._paused(own, now)

    def _paused(self, own: OriginSlots, now: float) -> OriginBusy:
        delay = timedelta(seconds=own.pause(now))
        return OriginBusy(delay, f"the origin asked to wait: {own.reason}")

    def _take(self, own: OriginSlots, now: float) -> Slot:
        self._taken += 1
        own.take(now)
        return Slot(own, self._release)

    def _release(self, own: OriginSlots) -> None:
        full = self._taken >= self._total
        self._taken -= 1
        own.taken -= 1
        if self._stirred is not None and own.contended and own.may_yield(_now()):
            self._stirred(own)
        if not full:
            # Most often nobody waits, and this is done for every file.
            if own.line or self._stirred is None:
                self.serve(own)
            return
        for waited in list(self._lines.values()):
            if self._taken < self._total:
                self._lines[waited.origin] = self._lines.pop(waited.origin)
                self.serve(waited)
        self._settle(own, _now())

    def _settle(self, own: OriginSlots, now: float) -> None:
        """Leave an origin as nobody has to look at it before the next event."""
        if own.line:
            self._serve_at(own, now, own.ready_at(now))
            return
        self._lines.pop(own.origin, None)
        self._stop_timer(own)
        # Where another grants the slots, it is told first that they are not used.
        if self._stirred is None and not own.taken and not own.pause(now):
            self.forget(own)

    def _serve_at(self, own: OriginSlots, now: float, ready: float) -> None:
        self._stop_timer(own)
        if now < ready < math.inf:
            loop = asyncio.get_running_loop()
            timer = loop.call_at(ready, self.serve, own)
            self._timers[own.origin] = timer

    def _stop_timer(self, own: OriginSlots) -> None:
        timer = self._timers.pop(own.origin, None)
        if timer is not None:
            timer.cancel()


class _Caller:
    """One call of ``acquire`` that waits."""

    wanted = 1

    def __init__(self, slot: asyncio.Future[Slot]) -> None:
        self.slot = slot

    def admit(self, slot: Slot) -> None:
        if self.slot.cancelled():  # its task has not run since
            slot.release()
        else:
            self.slot.set_result(slot)

    def refuse(self, busy: OriginBusy) -> None:
        if not self.slot.done():
            self.slot.set_exception(busy)

    def cancelled(self) -> None:
        """Pass on a slot that came together with the cancellation."""
        ended = self.slot.done() and not self.slot.cancelled()
        if ended and self.slot.exception() is None:
            self.slot.result().release()


def _now() -> float:
    return asyncio.get_running_loop().time()
