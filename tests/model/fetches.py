"""The specification's background fetch and its records, as plain data: no Redis here.

Time is counted in hours, and stands still unless somebody lets it pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.model.events import Event

LEASE, GRACE, RETENTION = 1, 1, 100
LANES, LANE_SIZE = 2, 2
"""Lanes of one fetch at most, and open records for each."""


@dataclass
class Record:
    """One request, with what is stored of its response (§ Background fetch record)."""

    method: str = "GET"
    upload: int = 0
    result: str = ""
    stored: int = 0
    uploaded: int = 0
    lane: int | None = None
    """The lane that works on it."""
    writer: int | None = None
    """The lane that reported on it last."""
    due: int = 0
    """When it can be taken, if nobody works on it."""


@dataclass
class Fetch:
    """One background fetch (§ Background fetch)."""

    uid: str
    id: str
    records: list[Record]
    download_total: int
    hold: int
    held: bool = False
    """Whether a producer held the records from the start: one of the set (R12)."""
    lanes: dict[int, int] = field(default_factory=dict)
    """Each lane that lives, and when its lease ends."""
    result: str = ""
    reason: str = ""
    paused: bool = False
    settled_at: int = 0
    hold_until: int = 0
    released_at: int | None = None
    purged: bool = False
    gone: bool = False
    events: list[Event] = field(default_factory=list)

    @property
    def pausable(self) -> bool:
        """Whether it may be paused (BF-DISP-08)."""
        return all(record.method == "GET" for record in self.records)

    @property
    def open(self) -> int:
        """Records without a result."""
        return sum(not record.result for record in self.records)

    @property
    def downloaded(self) -> int:
        """Stored body bytes: a sum, no counter (BF-STATE-03)."""
        return sum(record.stored for record in self.records)

    @property
    def uploaded(self) -> int:
        """Bytes of request bodies that were sent."""
        return sum(record.uploaded for record in self.records)

    @property
    def upload_total(self) -> int:
        """Bytes of all request bodies (BF-FETCH-18)."""
        return sum(record.upload for record in self.records)

    @property
    def completion(self) -> Event | None:
        """The completion event, once there is one."""
        found = [event for event in self.events if "click" not in event.name]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def clicks(self) -> int:
        """How often it was clicked."""
        return sum("click" in event.name for event in self.events)

    @property
    def available(self) -> bool:
        """Whether the records may be read (BF-MATCH-01)."""
        return self.released_at is None

    @property
    def lanes_allowed(self) -> int:
        """A total is exact only while one lane counts (R18)."""
        if self.download_total:
            return 1
        return max(1, min(LANES, -(-self.open // LANE_SIZE)))

    def ended_early(self) -> bool:
        """Whether the total is exceeded, which ends all at once (BF-PERF-03)."""
        return any(r.result == "download-total-exceeded" for r in self.records)

    def failure(self) -> str:
        """Why the records let it fail: the ruling on the order of the reasons."""
        failed = [r.result for r in self.records if r.result not in ("", "success")]
        for first in ("download-total-exceeded", "quota-exceeded"):
            if first in failed:
                return first
        return failed[0] if failed else ""

    def takeable(self, now: int) -> set[int]:
        """Records that a lane could take now."""
        return {
            index
            for index, record in enumerate(self.records)
            if not record.result and record.lane is None and record.due <= now
        }

    def disband(self, lane: int, now: int) -> None:
        """A lane leaves, or is dead: another may take what it worked on (R14)."""
        del self.lanes[lane]
        for record in self.records:
            if record.lane == lane:
                record.lane, record.due = None, now

    def outcome(self, index: int) -> str:
        """How a record reads: unfinished ones of an ended fetch are aborted (R13)."""
        return self.records[index].result or ("aborted" if self.result else "")

    def owed_to_nobody_else(self) -> bool:
        """Whether the set of the completion event has settled (guarantee 6)."""
        event = self.completion
        assert event is not None
        return event.settled or (event.open and self.held)

    def settlement(self) -> dict[str, str] | None:
        """What ``settled()`` tells; None while it waits."""
        event = self.completion
        if event is None:
            return None
        if event.settled:
            return {name: each.outcome for name, each in event.owed.items()}
        if self.available:
            return None
        return {} if self.held else {"": "expired"}
