"""Carries the sockets and the timer of a socket-driven library on the event loop.

All sockets stand in one selector of their own (epoll, kqueue), and the loop watches
that selector as a single reader: a wake-up serves every ready socket at once. Measured
with 5,000 files of 4 KiB, this takes about two thirds of the CPU of a loop reader for
each socket, and unlike a thread it calls back on the loop alone.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable

TIMEOUT = -1
"""Stands for the socket when ``act`` is called because a time has come."""
_READ_WRITE = selectors.EVENT_READ | selectors.EVENT_WRITE


class Reactor:
    """Calls ``act(socket, events)`` when a socket is ready or the timer runs out.

    ``events`` are those of ``selectors``. ``act`` may call ``watch`` and ``arm``.
    """

    def __init__(self, act: Callable[[int, int], object]) -> None:
        self._act = act
        self._loop = asyncio.get_running_loop()
        self._selector = selectors.DefaultSelector()
        # A selector that can wait has a descriptor, which can be waited for in turn.
        self._descriptor: int = self._selector.fileno()
        self._loop.add_reader(self._descriptor, self._ready)
        self._watched: dict[int, int] = {}
        self._due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._kicked = False
        self._closed = False

    def watch(self, socket: int, events: int) -> None:
        """Wait for ``events`` on ``socket``; none of the two: for nothing any more."""
        if self._closed:
            return
        events &= _READ_WRITE
        before = self._watched.get(socket, 0)
        if events == before:
            return
        if not events:
            del self._watched[socket]
            self._selector.unregister(socket)
            return
        self._watched[socket] = events
        if before:
            self._selector.modify(socket, events)
        else:
            self._selector.register(socket, events)

    def arm(self, milliseconds: int) -> None:
        """Set the one timer; 0 is as soon as the caller has returned, below 0 never."""
        if self._closed:
            return
        self._due = math.inf
        if milliseconds == 0 and not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._kick)
        if milliseconds <= 0:
            return
        self._due = self._loop.time() + milliseconds / 1000
        # A timer that is early is left alone and goes on when it has run out: most
        # times are put off again long before.
        if self._timer is None or self._timer.when() > self._due:
            self._start_timer()

    def close(self) -> None:
        """Forget all sockets and the timer; nothing is called afterwards."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._descriptor)
        self._selector.close()

    def _ready(self) -> None:
        for key, events in self._selector.select(0):
            self._act(key.fd, events)
            if self._closed:
                return

    def _start_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._run_out)

    def _run_out(self) -> None:
        self._timer = None
        if self._loop.time() >= self._due:
            self._due = math.inf
            self._act(TIMEOUT, 0)
        elif self._due != math.inf:
            self._start_timer()

    def _kick(self) -> None:
        self._kicked = False
        if not self._closed:
            self._act(TIMEOUT, 0)
