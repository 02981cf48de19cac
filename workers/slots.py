"""How many exchanges run at a time: in all, and with one origin.

libcurl has such limits, but its connect timeout runs while a transfer waits for them:
a busy origin would look unreachable.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta

from workers.turns import OriginBusy, OriginTurns, Turn, Waiter


class Slots:
    """Hands out turns with origins: first come, first served by each.

    Without ``stirred`` every origin has ``per_origin`` turns. With it that many are
    for somebody else to grant: it is called with each origin of which there is news.
    Who waits for longer than ``patience`` seconds is sent away.
    """

    def __init__(
        self,
        total: int,
        per_origin: int,
        *,
        patience: float = math.inf,
        stirred: Callable[[OriginTurns], None] | None = None,
    ) -> None:
        self.origins: dict[str, OriginTurns] = {}
        self._total = total
        self._granted = per_origin if stirred is None else 0
        self._patience = patience
        self._stirred = stirred
        self._taken = 0
        self._lines: dict[str, OriginTurns] = {}
        """The origins with a line; the one that was served last is the last."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def take(self, origin: str) -> Turn | None:
        """Take a turn if there is one now, and nobody waits for it.

        Raises:
            OriginBusy: there is none for so long that it is better to come back.
        """
        turns, now = self._turns(origin), _now()
        self._check_pause(turns, now)
        if turns.line or self._taken >= self._total or turns.ready_at(now) > now:
            return None
        return self._take(turns, now)

    def line_up(self, origin: str, waiter: Waiter) -> None:
        """Wait for a turn, behind those who wait already."""
        turns = self._lines[origin] = self._turns(origin)
        turns.line.append(waiter)
        if self._stirred is not None and turns.hungry():
            self._stirred(turns)
        self._settle(turns, _now())

    def leave(self, origin: str, waiter: Waiter) -> None:
        """Wait no more; harmless for one who does not wait."""
        turns = self.origins.get(origin)
        if turns is not None and waiter in turns.line:
            turns.line.remove(waiter)
            self._settle(turns, _now())

    async def acquire(self, origin: str) -> Turn:
        """Return a turn, to be released.

        Raises:
            OriginBusy: there is none for so long that it is better to come back.
        """
        turn = self.take(origin)
        if turn is not None:
            return turn
        loop = asyncio.get_running_loop()
        waiter = _Caller(loop.create_future())
        self.line_up(origin, waiter)
        timer = None
        if self._patience < math.inf:
            detail = "every turn with the origin is taken"
            busy = OriginBusy(timedelta(seconds=self._patience / 2), detail)
            timer = loop.call_later(
                self._patience, self._send_away, origin, waiter, busy
            )
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            self.leave(origin, waiter)
            waiter.cancelled()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _send_away(self, origin: str, waiter: Waiter, busy: OriginBusy) -> None:
        self.leave(origin, waiter)
        waiter.refuse(busy)

    def serve(self, turns: OriginTurns) -> None:
        """Hand out what has become free with one origin."""
        now = _now()
        while turns.line and self._taken < self._total and turns.ready_at(now) <= now:
            turns.line.popleft().admit(self._take(turns, now))
        if turns.line and turns.pause(now) > self._patience:
            waiting = list(turns.line)
            turns.line.clear()
            for waiter in waiting:
                waiter.refuse(self._paused(turns, now))
        self._settle(turns, now)

    def answered(self, origin: str) -> None:
        """Note a good answer, after which a lowered limit may rise."""
        self._turns(origin).praise()

    def complained(self, origin: str, reason: str, pause: timedelta) -> None:
        """Lower the limit of an origin that cannot cope, and leave it alone so long."""
        turns = self._turns(origin)
        turns.complain(reason, _now() + pause.total_seconds())
        if self._stirred is not None:
            self._stirred(turns)
        self.serve(turns)

    def forget(self, turns: OriginTurns) -> None:
        """Drop what is known of an origin that nobody uses."""
        self._stop_timer(turns)
        self.origins.pop(turns.origin, None)

    def _turns(self, origin: str) -> OriginTurns:
        turns = self.origins.get(origin)
        if turns is None:
            turns = self.origins[origin] = OriginTurns(origin, self._granted)
        return turns

    def _check_pause(self, turns: OriginTurns, now: float) -> None:
        if turns.pause(now) > self._patience:
            raise self._paused(turns, now)

    def _paused(self, turns: OriginTurns, now: float) -> OriginBusy:
        delay = timedelta(seconds=turns.pause(now))
        return OriginBusy(delay, f"the origin asked to wait: {turns.reason}")

    def _take(self, turns: OriginTurns, now: float) -> Turn:
        self._taken += 1
        turns.take(now)
        return Turn(turns, self._release)

    def _release(self, turns: OriginTurns) -> None:
        full = self._taken >= self._total
        self._taken -= 1
        turns.taken -= 1
        if self._stirred is not None and turns.may_yield(_now()):
            self._stirred(turns)
        if not full:
            self.serve(turns)
            return
        for waited in list(self._lines.values()):
            if self._taken < self._total:
                self._lines[waited.origin] = self._lines.pop(waited.origin)
                self.serve(waited)
        self._settle(turns, _now())

    def _settle(self, turns: OriginTurns, now: float) -> None:
        """Leave an origin as nobody has to look at it before the next event."""
        if turns.line:
            self._serve_at(turns, now, turns.ready_at(now))
            return
        self._lines.pop(turns.origin, None)
        self._stop_timer(turns)
        # Where another grants the turns, it is told first that they are not used.
        if self._stirred is None and not turns.taken and not turns.pause(now):
            self.forget(turns)

    def _serve_at(self, turns: OriginTurns, now: float, ready: float) -> None:
        self._stop_timer(turns)
        if now < ready < math.inf:
            loop = asyncio.get_running_loop()
            timer = loop.call_at(ready, self.serve, turns)
            self._timers[turns.origin] = timer

    def _stop_timer(self, turns: OriginTurns) -> None:
        timer = self._timers.pop(turns.origin, None)
        if timer is not None:
            timer.cancel()


class _Caller:
    """One call of ``acquire`` that waits."""

    wanted = 1

    def __init__(self, turn: asyncio.Future[Turn]) -> None:
        self.turn = turn

    def admit(self, turn: Turn) -> None:
        if self.turn.cancelled():  # its task has not run since
            turn.release()
        else:
            self.turn.set_result(turn)

    def refuse(self, busy: OriginBusy) -> None:
        if not self.turn.done():
            self.turn.set_exception(busy)

    def cancelled(self) -> None:
        """Pass on a turn that came together with the cancellation."""
        ended = self.turn.done() and not self.turn.cancelled()
        if ended and self.turn.exception() is None:
            self.turn.result().release()


def _now() -> float:
    return asyncio.get_running_loop().time()
