"""How many exchanges run at a time: in all, and with one origin.

libcurl has such limits, but its connect timeout runs while a transfer waits for them:
a busy origin would look unreachable.
"""

from __future__ import annotations

import asyncio


class Slots:
    """Hands out turns: first come, first served, among those whose origin has room."""

    def __init__(self, total: int, per_origin: int) -> None:
        self._total = total
        self._per_origin = per_origin
        self._taken = 0
        self._origins: dict[str, int] = {}
        self._waiting: dict[asyncio.Future[None], str] = {}

    async def acquire(self, origin: str) -> None:
        """Return when it is the caller's turn; ``release`` must follow."""
        if self._fits(origin):
            self._take(origin)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = origin
        try:
            await turn
        except asyncio.CancelledError:
            if self._waiting.pop(turn, None) is None:
                # The turn came together with the cancellation: pass it on.
                self.release(origin)
            raise

    def release(self, origin: str) -> None:
        """Give a turn back, and the next one who fits its own."""
        self._taken -= 1
        self._origins[origin] -= 1
        if not self._origins[origin]:
            del self._origins[origin]
        for turn, waiting in self._waiting.items():
            # One that was cancelled leaves the line when its task runs again.
            if not turn.done() and self._fits(waiting):
                del self._waiting[turn]
                self._take(waiting)
                turn.set_result(None)
                return

    def _fits(self, origin: str) -> bool:
        taken = self._origins.get(origin, 0)
        return self._taken < self._total and taken < self._per_origin

    def _take(self, origin: str) -> None:
        self._taken += 1
        self._origins[origin] = self._origins.get(origin, 0) + 1
