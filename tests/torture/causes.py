"""Why a handler began again: what met the process that had the delivery before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from tests.torture.history import Line
from tests.torture.log import Changed

CAUSES = (
    "kill",
    "leave",
    "late",
    "stop",
    "partition",
    "tail",
    "restart",
    "mute",
    "cut",
    "starved",
)
"""What explains a duplicate; of several that met it, the first."""
UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done to a process, or with process 0 to all."""

    kind: str
    process: int
    begin: float
    end: float

    @classmethod
    def of(cls, line: Line) -> Self:
        """Read one from a line that tells of it."""
        kind, process, begin, end = line.words
        return cls(kind, int(process), float(begin), float(end))


@dataclass(frozen=True, slots=True)
class Attempts:
    """All that is known of the attempts at one delivery."""

    changes: Sequence[Changed]
    """What Redis has of it."""
    lost: Sequence[Changed]
    """What Redis had of it, and lost with its newest writes."""
    told: Sequence[Line]
    """What processes said, by time."""

    def causes(self, faults: Iterable[Fault]) -> list[str]:
        """Why each attempt began that was not the first to start a handler."""
        starts = [line for line in self.told if line.what == "start"]
        # A process that was held up may start its handler when another has, too.
        starts.sort(key=lambda line: (int(line.words[1]), line.time))
        faults = tuple(faults)
        return [self._cause(*two, faults) for two in pairwise(starts)]

    def _cause(self, before: Line, after: Line, faults: Iterable[Fault]) -> str:
        attempts = range(int(before.words[1]), int(after.words[1]))
        raised = (line for line in self.told if line.what == "raised")
        if any(int(line.words[1]) in attempts for line in raised):
            return "raised"
        all_changes = (*self.changes, *self.lost)
        holders = {it.process for it in all_changes if it.attempt in attempts}
        met = {
            fault.kind
            for fault in faults
            if fault.process in (0, before.process, *holders)
            and fault.begin <= max(before.time, after.time)
            and fault.end >= min(before.time, after.time)
        }
        if not attempts:  # one attempt, started twice: Redis knows nothing of the first
            met &= {"tail"} if self.lost else set()
        return next((kind for kind in CAUSES if kind in met), UNEXPLAINED)
