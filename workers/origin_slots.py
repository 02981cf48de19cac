"""What this process may ask of one origin, and what it does ask: the slots there.

A grant says how many exchanges may run, and at which rate they may begin; it ends
unless it is renewed. Then the process goes on alone, with one exchange at a time.
Times are seconds of the caller's clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from broker.origins import Grant, OriginReport

ALL_TAKEN = "every slot with the origin is taken"
ALONE_RATE = 1.0
"""Requests per second where a rate is set and the others are out of reach."""
CATCH_UP = 0.1
"""Seconds of the rate that a late event loop may make up for."""
_NEVER, _ANY_TIME = math.inf, -math.inf


class OriginBusy(Exception):
    """The origin is not to be asked for a while: come back after ``delay``."""

    def __init__(self, delay: timedelta, detail: str) -> None:
        super().__init__(detail)
        self.delay = delay
        self.detail = detail


class Waiter(Protocol):
    """Stands in line for slots with one origin."""

    @property
    def wanted(self) -> int:
        """How many slots it could use now."""

    def admit(self, slot: Slot) -> None:
        """Leave the line with a slot, which may be released at once."""

    def refuse(self, busy: OriginBusy) -> None:
        """Leave the line without one."""


class Slot:
    """The right to one exchange with an origin, until it is released."""

    __slots__ = ("_origin", "_release")

    def __init__(
        self, origin: OriginSlots, release: Callable[[OriginSlots], None]
    ) -> None:
        self._origin: OriginSlots | None = origin
        self._release = release

    def release(self) -> None:
        """Give the slot back; to do so again is harmless."""
        origin, self._origin = self._origin, None
        if origin is not None:
            self._release(origin)


class OriginSlots:
    """The slots with one origin: those granted, those taken, those waited for."""

    def __init__(self, origin: str, granted: int = 0) -> None:
        """``granted`` slots may be taken before anybody else is heard."""
        self.origin = origin
        self.line: deque[Waiter] = deque()
        self.taken = 0
        self.spare = 0
        """How many slots are wanted that nobody else wants, here or elsewhere."""
        self.reason = ""
        """Why the origin's limit is low, for people."""
        self.contended = False
        """Whether other processes wait for slots with the origin."""
        self._granted = granted
        self._ends = _NEVER
        self._rate: float | None = None
        self._next_at = self._paused_until = _ANY_TIME
        self._peak = self._told = self._booked = 0
        self._good = False
        self._complaint = ""

    def limit(self, now: float) -> int:
        """How many exchanges may run."""
        return self._granted if now < self._ends else 1

    def ready_at(self, now: float) -> float:
        """When the next exchange may begin; never, as long as no slot is free."""
        if self.taken >= self.limit(now):
            return _NEVER
        if self._rate is None:
            return self._paused_until
        if not self._pace(now):
            return _NEVER
        return max(self._paused_until, self._next_at)

    def pause(self, now: float) -> float:
        """Seconds for which the origin is left alone."""
        return max(0.0, self._paused_until - now)

    def rest(self, now: float) -> float:
        """Seconds for which the rate lets no request begin."""
        return max(0.0, self._next_at - now)

    def take(self, now: float) -> None:
        """Begin an exchange that may begin."""
        self.taken += 1
        self._peak = max(self._peak, self.taken)
        if self._rate is not None:
            self._next_at = max(self._next_at, now - CATCH_UP) + 1 / self._pace(now)

    def _pace(self, now: float) -> float:
        if self._rate is None:
            return 0.0
        return self._rate if now < self._ends else ALONE_RATE

    @property
    def wanted(self) -> int:
        """How many exchanges this process could run now."""
        spare = 0 if self.contended else self.spare
        return self.taken + sum(waiter.wanted for waiter in self.line) + spare

    def complain(self, reason: str, until: float) -> None:
        """Have the limit lowered for all, and the origin left alone until then."""
        self._complaint = self.reason = reason
        self._paused_until = max(self._paused_until, until)

    def praise(self) -> None:
        """Note a good answer."""
        self._good = True

    @property
    def idle(self) -> bool:
        """Whether nobody has wanted anything since the last tick."""
        return not (self._peak or self.taken or self.line or self._complaint)

    def hungry(self) -> bool:
        """Note what is wanted; True if more of it would be granted, as far as known."""
        if self._granted < self._told:
            return False  # asked at each exchange: nothing is added up for that
        wanted = self.wanted
        self._peak = max(self._peak, wanted)
        return self._told < wanted

    def may_yield(self, now: float) -> bool:
        """Whether there is something to give back for which others wait."""
        return self.contended and self._held(now) < self._booked

    def _held(self, now: float) -> int:
        return max(self.limit(now), self.taken)

    def report(self, now: float, *, tick: bool) -> OriginReport:
        """Return how this process stands; at a tick, with what it wanted since then."""
        wanted = max(self._peak, self.wanted) if tick else self.wanted
        if tick:
            self._peak = self.wanted
        if not wanted:
            self._granted = 0  # given back, whatever is wanted before the answer
        pause = self.pause(now) if self._complaint else 0.0
        report = OriginReport(
            self.origin,
            held=self._held(now) if wanted else self.taken,
            wanted=wanted,
            used=self.taken,
            rate=self._pace(now) if wanted else 0.0,
            good=self._good,
            complaint=self._complaint,
            pause=timedelta(seconds=pause),
            rest=timedelta(seconds=self.rest(now)),
        )
        self._told, self._good, self._complaint = wanted, False, ""
        return report

    def heard(
        self, report: OriginReport, grant: Grant, now: float, ends: float
    ) -> bool:
        """Keep to the answer to ``report`` until it ``ends``; True to report again."""
        self._granted, self._ends = grant.connections, ends
        self._booked = max(report.held, grant.connections)
        self.contended, self.reason = grant.contended, grant.reason
        self._rate, slower = grant.rate, (grant.rate or 0.0) < report.rate
        if grant.rest:
            self._next_at = max(self._next_at, now + grant.rest.total_seconds())
        until = now + grant.pause.total_seconds()
        # What was complained of meanwhile, the others have not heard.
        self._paused_until = (
            max(self._paused_until, until) if self._complaint else until
        )
        return grant.contended and (slower or self.may_yield(now))

    def unheard(self, report: OriginReport) -> None:
        """Keep what a report said that nobody has heard, perhaps."""
        self._good = self._good or report.good
        self._complaint = self._complaint or report.complaint
        self._peak, self._told = max(self._peak, report.wanted), 0

    def go_on_alone(self, now: float) -> None:
        """Wait no longer for a first grant; one that there is holds until it ends."""
        if self._ends == _NEVER:
            self._ends = now
