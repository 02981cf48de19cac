"""The specification's events, and their way to subscribers, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_FAILURES = 2
OUTCOMES = ("acked", "purged", "expired", "removed")


@dataclass
class Delivery:
    """One event on its way to one subscriber that is owed it (R10)."""

    status: str = "new"
    """``new``, ``held``, ``waiting``, ``dead`` or one of the outcomes."""
    failures: int = 0
    attempt: int = 0
    holder: int = -1
    """The beginning that has, or had, the right to it."""
    until: int = 0
    """When the holder's lease ends, or when it is due again."""

    @property
    def outcome(self) -> str:
        """Its outcome, or nothing: a dead letter has none (R21)."""
        return self.status if self.status in OUTCOMES else ""

    def begin(self, holder: int, until: int) -> None:
        """Somebody handles it from now on."""
        self.status, self.holder, self.until = "held", holder, until
        self.attempt += 1

    def give_up(self, *, failed: bool, due: int) -> None:
        """An attempt ends without acknowledgement; only failures count (R20)."""
        self.failures += failed
        self.status, self.until = "waiting", due
        if self.failures >= MAX_FAILURES:
            self.status = "dead"

    def settle(self, outcome: str) -> None:
        """It has its outcome for ever."""
        assert not self.outcome
        self.status = outcome


@dataclass
class Event:
    """One event of a fetch, and to whom it is owed (R11)."""

    name: str
    predecessor: str
    result: str
    reason: str
    """Those of the fetch at the moment of publication (BF-EVT-05)."""
    owed: dict[str, Delivery] = field(default_factory=dict)
    open: bool = False
    """Published to an empty set: the first subscriber to come adopts it (R12)."""

    @property
    def type(self) -> str:
        """What listeners hear it as."""
        return self.name.partition(".")[0]

    @property
    def settled(self) -> bool:
        """Whether all that are owed it are done with it."""
        return bool(self.owed) and all(each.outcome for each in self.owed.values())
