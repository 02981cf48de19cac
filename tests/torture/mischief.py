"""What happens to the processes of ``torture events``: drawn from the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a step does."""

    KILL = "kill"
    """SIGKILL for a consumer, and a new one at once."""
    STOP = "stop"
    """SIGSTOP for a consumer, and SIGCONT later: a former holder that wakes."""
    PARTITION = "partition"
    """What a consumer and Redis say to each other arrives later, both ways."""
    LEAVE = "leave"
    """SIGTERM for a consumer, and a new one at once."""
    CUT = "cut"
    """A consumer and every publisher lose their connections."""
    MUTE = "mute"
    """The answer to a script is lost, though the script did its work."""
    RESTART = "restart"
    """SIGKILL for Redis, which starts again from its append-only file."""
    LATE = "late"
    """A consumer stops in the middle of a handler until another has its delivery; then
    it goes on, and acknowledges: a former holder by construction (R10)."""
    TAIL = "tail"
    """The same as a restart, but its newest writes are lost, acknowledged or not."""
    DESTROY = "destroy"
    """The group of a subscriber is gone (R9)."""


FAULTS = tuple(kind for kind in Kind if kind not in (Kind.TAIL, Kind.DESTROY))
"""Those after which nothing that was acknowledged may be missing."""


_SCRIPTS = ("begin", "ack", "nack", "collect", "extend")
_PUBLISHING = ("click", "abort", "register")


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, once this share of all deliveries is handled."""

    share: float
    kind: Kind
    pick: float
    """Which consumer of those that are equally busy, as a share of all."""
    leases: float
    """How long, where it lasts."""
    seconds: float
    """How much of the newest writes is lost, where they are."""
    scripts: tuple[str, str]
    """Whose answer is lost: of a consumer, and of a publisher."""


def plan(seed: int, number: int, count: int, kinds: Sequence[Kind]) -> list[Step]:
    """Draw so many steps for a round, of each kind as many; repeatable."""
    choose = random.Random(f"{seed}/{number}")
    drawn: list[Kind] = []
    while len(drawn) < count:
        drawn += choose.sample(kinds, len(kinds))
    return [
        Step(
            (index + choose.random()) / (count + 1),
            kind,
            choose.random(),
            choose.choice((0.5, 1.8, 2.5, 2.5)),
            choose.random(),
            (choose.choice(_SCRIPTS), choose.choice(_PUBLISHING)),
        )
        for index, kind in enumerate(drawn[:count])
    ]
