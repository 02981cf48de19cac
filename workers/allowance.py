"""The bytes that a lane may store: it counts them, and asks for more (R18)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.store import Congested
from schemas.records import RecordResult

SPARE = 32 * 1024 * 1024
"""Bytes granted ahead that a lane keeps: as many as it is granted at most."""


@dataclass(slots=True)
class Allowance:
    """Bytes that this lane may store; it alone counts them (R18). 0 is no limit.

    Under a quota of the scope it has what Redis granted its fetch, which is more than
    it needs as a rule. What needs more waits for the next report, which asks.
    """

    total: int
    """The fetch's download total."""
    used: int
    quota: int = 0
    """What the policy of the scope grants one fetch."""
    record: int = 0
    """What one record may have."""
    granted: int = -1
    """What the quota of the scope grants this fetch for now; -1 is no limit."""
    ask: Callable[[], None] = lambda: None
    """Have the lane report soon."""
    _refused: bool = False
    _short: int = 0
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    def claim(self) -> tuple[int, int]:
        """What to ask for: the bytes needed, -1 without a quota; and those to keep.

        Of what was granted and is far from needed, the rest is given up at once.
        """
        if self.granted < 0:
            return -1, 0
        need = self.used + self._short
        self.granted = min(self.granted, need + SPARE)
        return need, self.granted

    def take(self, size: int) -> tuple[RecordResult, str] | None:
        """Count ``size`` bytes, or return which limit that exceeds (BF-REC-15, -17).

        Raises:
            Congested: Redis has to be asked for them.
        """
        used = self.used + size
        if self.total and used > self.total:
            told = f"more than {self.total} bytes"
            return RecordResult.DOWNLOAD_TOTAL_EXCEEDED, told
        if self.quota and used > self.quota:
            told = f"more than {self.quota} bytes, by the policy of the scope"
            return RecordResult.QUOTA_EXCEEDED, told
        if 0 <= self.granted < used:
            if self._refused:
                told = "no room left within the quota of the scope"
                return RecordResult.QUOTA_EXCEEDED, told
            self._short += size
            self.ask()
            raise Congested(self._waiting.append)
        self.used = used
        return None

    def grant(self, granted: int, need: int) -> None:
        """Redis has granted so much, where ``need`` was asked for."""
        self.granted = granted
        self._refused = need > granted
        waiting, self._waiting, self._short = self._waiting, [], 0
        for go_on in waiting:
            go_on()
