"""How often one caller may do something, counted in this process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_KEYS = 10_000
"""Callers that are remembered; the one that was heard longest ago is forgotten."""


class Rates:
    """For each key a bucket that fills evenly: ``burst`` at once, ``rate`` a second."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait(self, key: str) -> float:
        """Take one; return 0, or after how many seconds there is one to take."""
        now = self._clock()
        full_at = max(self._full_at.pop(key, now), now) + 1 / self._rate
        late = full_at - now - self._burst / self._rate
        self._full_at[key] = full_at if late <= 0 else full_at - 1 / self._rate
        while len(self._full_at) > MOST_KEYS:
            self._full_at.popitem(last=False)
        return max(0.0, late)

    def exhausted(self, key: str) -> float:
        """As ``wait``, without taking one."""
        full_at = max(self._full_at.get(key, 0.0), self._clock())
        late = full_at + (1 - self._burst) / self._rate - self._clock()
        return max(0.0, late)
