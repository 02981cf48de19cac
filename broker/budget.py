"""How many bytes may wait for uploads in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

BUDGET = 16 * 1024 * 1024


class Holder(Protocol):
    """Holds bytes in memory until it is told to send them."""

    @property
    def held(self) -> int:
        """Bytes that ``send`` would send."""

    def send(self) -> None:
        """Begin to upload what is held."""

    def close(self) -> None:
        """Let go what is held."""


class Budget:
    """Counts the bytes that all parts of a store hold in memory. Used by any thread.

    Where memory is short, those that hold most send it early: waiting for a part to be
    full would be waiting for its origin, which may be silent.
    """

    def __init__(self, limit: int = BUDGET) -> None:
        self._limit = limit
        self._held = 0
        self._sending = 0
        self._lock = threading.Lock()
        self._holders: WeakSet[Holder] = WeakSet()
        self._waiting: list[Callable[[], None]] = []
        self._closed = False

    def enter(self, holder: Holder) -> None:
        """Have a part send its bytes when memory runs short."""
        with self._lock:
            self._holders.add(holder)

    def leave(self, holder: Holder) -> None:
        """Forget a part."""
        with self._lock:
            self._holders.discard(holder)

    def take(self, size: int) -> bool:
        """Count ``size`` bytes more, or see to it that there is room soon."""
        with self._lock:
            fits = not self._held or self._held + size <= self._limit
            if fits or self._closed:
                self._held += size
                return True
            holders = sorted(self._holders, key=lambda each: -each.held)
        for holder in holders:
            if self._sending >= self._limit // 2:
                break
            holder.send()
        return False

    def close(self) -> None:
        """Close all parts, and have nobody wait for room any more."""
        with self._lock:
            self._closed = True
            holders = list(self._holders)
        for holder in holders:
            holder.close()
        self._wake()

    def free(self, size: int) -> None:
        """Count ``size`` bytes less."""
        with self._lock:
            self._held -= size
        self._wake()

    def sending(self, more: int) -> None:
        """Count the bytes on their way, which will be free."""
        with self._lock:
            self._sending += more

    def wait(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called once, in any thread, when there is room again."""
        with self._lock:
            self._waiting.append(wake)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            short = self._held > self._limit * 3 // 4
            if self._sending and short and not self._closed:
                return
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()
