"""Shares a number of bytes a second among the transfers of a process.

A transfer that finds nothing left is paused, which its origin feels as a full window,
and waits in line; each turn is one chunk, so that all get the same. libcurl limits one
transfer by itself, but a limit that is changed under way it does not keep well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

TURN_SECONDS = 0.05
"""How long is waited at least between two rounds: fewer wake-ups, small bursts."""

CHUNK = 16 * 1024
"""What libcurl hands over at a time, and what a turn counts for until it is over."""


class Waiter(Protocol):
    """A transfer that can be told to go on."""

    def resume(self) -> None:
        """Ask again now, or soon."""


class Timer(Protocol):
    """A call that is yet to come."""

    def cancel(self) -> None:
        """Let it not come."""


class Throttle:
    """Admits chunks while fewer than ``rate`` bytes a second have gone, on average.

    ``clock`` and ``later`` are the event loop's ``time`` and ``call_later``.
    """

    def __init__(
        self,
        rate: int,
        *,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._clock = clock
        self._later = later
        self._rate = rate
        self._most = rate * TURN_SECONDS
        self._left = self._most
        self._counted_at = clock()
        # In the order in which they came.
        self._waiting: dict[Waiter, None] = {}
        self._turns: set[Waiter] = set()
        self._timer: Timer | None = None

    def admits(self, waiter: Waiter) -> bool:
        """Whether the next chunk may go; if not, ``waiter`` is resumed in its turn."""
        if self._has_turn(waiter):
            return True
        if not self._waiting and self._refilled() > 0:
            return True
        self._waiting[waiter] = None
        if self._timer is None:
            self._wait()
        return False

    def took(self, count: int) -> None:
        """Count a chunk that went; what exceeds the rate is waited for afterwards."""
        self._left -= count

    def forget(self, waiter: Waiter) -> None:
        """Give up the place of a transfer that has ended."""
        self._waiting.pop(waiter, None)
        self._has_turn(waiter)

    def close(self) -> None:
        """Resume nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _has_turn(self, waiter: Waiter) -> bool:
        """Whether it is its turn, which is over with the question."""
        if waiter not in self._turns:
            return False
        self._turns.discard(waiter)
        self._left += CHUNK
        return True

    def _refilled(self) -> float:
        now = self._clock()
        earned = (now - self._counted_at) * self._rate
        self._left, self._counted_at = min(self._left + earned, self._most), now
        return self._left

    def _wait(self) -> None:
        seconds = max(TURN_SECONDS, -self._refilled() / self._rate)
        self._timer = self._later(seconds, self._go_round)

    def _go_round(self) -> None:
        self._timer = None
        self._refilled()
        # Who comes to wait meanwhile is served in the next round at the earliest.
        for waiter in list(self._waiting):
            if self._left <= 0:
                break
            if waiter in self._waiting:
                del self._waiting[waiter]
                self._turns.add(waiter)
                self._left -= CHUNK
                waiter.resume()
        if self._waiting and self._timer is None:
            self._wait()
