"""The specification of one scope, rulings included, as a machine without Redis.

Methods do what a call does and return what it must answer. Where the specification
leaves a choice, as which record a lane takes, the choice is given and judged.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from tests.model.fetches import GRACE, LEASE, RETENTION, Fetch, Record
from tests.model.subscribers import Subscribers


@dataclass(frozen=True)
class Told:
    """What a lane says of one record."""

    index: int
    stored: int
    uploaded: int
    result: str
    delay: int | None


@dataclass
class Scope(Subscribers):
    """Everything that a scope owns."""

    active: dict[str, str] = field(default_factory=dict)
    """The map of active background fetches: id -> uid."""

    def newest(self, id: str) -> Fetch | None:
        """The fetch that ``find`` gives."""
        named = [fetch for fetch in self.fetches.values() if fetch.id == id]
        return named[-1] if named and not named[-1].gone else None

    def fetch(
        self, uid: str, id: str, records: list[Record], total: int, hold: int
    ) -> None:
        """§ fetch: the id is free, which the caller has seen."""
        assert id not in self.active
        self.active[id] = uid
        self.fetches[uid] = Fetch(uid, id, records, total, hold, held=hold > 0)

    def click(self, fetch: Fetch) -> str | None:
        """§ Fire a click event; None once the fetch is forgotten."""
        if fetch.gone:
            return None
        return self.publish(fetch, f"backgroundfetchclick.{fetch.clicks + 1}")

    def abort(self, fetch: Fetch) -> bool:
        """§ abort: the active map decides (BF-ABORT-02)."""
        if self.active.get(fetch.id) != fetch.uid:
            return False
        self._settle(fetch, "aborted")
        return True

    def pause(self, fetch: Fetch) -> bool | None:
        """None where that is refused."""
        if fetch.gone or fetch.result or not fetch.pausable:
            return None
        changed, fetch.paused = not fetch.paused, True
        return changed

    def resume(self, fetch: Fetch) -> bool | None:
        """None where that is refused."""
        if fetch.gone or fetch.result:
            return None
        changed, fetch.paused = fetch.paused, False
        self._end_dead_lanes(fetch, only_if=changed)
        return changed

    def release(self, fetch: Fetch) -> bool:
        """The producer no longer holds the records; False once all is forgotten."""
        if fetch.gone:
            return False
        fetch.hold = 0
        if fetch.result and fetch.available:
            fetch.hold_until = 0
        return True

    def take(self, fetch: Fetch, want: int) -> str:
        """Why there is no lane, or ``ok``: then ``took`` is called."""
        if fetch.gone:
            return "gone"
        if fetch.result:
            return "settled"
        if fetch.paused:
            return "paused"
        if len(fetch.lanes) >= fetch.lanes_allowed:
            return "full"
        return "ok" if fetch.takeable(self.now) else "idle"

    def took(self, fetch: Fetch, lane: int, indexes: Collection[int]) -> None:
        """A lane has these records; it lives."""
        assert set(indexes) <= fetch.takeable(self.now), "a record is taken twice"
        fetch.lanes.setdefault(lane, self.now + LEASE)
        for index in indexes:
            fetch.records[index].lane = lane

    def report(self, fetch: Fetch, lane: int, told: list[Told]) -> tuple[str, set[int]]:
        """How a report is answered: in a word, and which records are not the lane's."""
        if fetch.gone:
            return "gone", set()
        if fetch.result:
            return "settled", set()
        if lane not in fetch.lanes:
            return "stale", set()
        stale = {each.index for each in told if not self._apply(fetch, lane, each)}
        if fetch.ended_early() or not fetch.open:
            self._settle(fetch, fetch.failure())
            return "ended", stale
        if fetch.paused:
            return "paused", stale
        fetch.lanes[lane] = self.now + LEASE
        return "ok", stale

    def _apply(self, fetch: Fetch, lane: int, told: Told) -> bool:
        record = fetch.records[told.index]
        if record.lane != lane:
            # A repetition gets the first answer, and changes nothing (R14).
            ends = bool(record.result) or told.delay is not None
            return ends and record.writer == lane
        record.stored, record.uploaded = told.stored, told.uploaded
        record.result, record.writer = told.result, lane
        if told.result:
            record.lane = None
        elif told.delay is not None:
            record.lane, record.due = None, self.now + told.delay
        return True

    def leave(self, fetch: Fetch, lane: int) -> None:
        """A lane goes."""
        if not fetch.gone and lane in fetch.lanes:
            fetch.disband(lane, self.now)

    def _settle(self, fetch: Fetch, reason: str) -> None:
        """§ perform, last steps: the id is free and all is final before the event."""
        del self.active[fetch.id]
        fetch.result, fetch.reason = "failure" if reason else "success", reason
        fetch.settled_at, fetch.paused = self.now, False
        fetch.hold_until = self.now + fetch.hold
        kinds = {"": "success", "aborted": "abort"}
        self.publish(fetch, "backgroundfetch" + kinds.get(reason, "fail"))
        if fetch.owed_to_nobody_else() and not fetch.hold:
            fetch.released_at = self.now

    def reclaim(self) -> None:
        """Everything that is due is done."""
        for fetch in self.retained:
            if not fetch.result:
                self._end_dead_lanes(fetch)
            while not fetch.gone and self._step(fetch):
                pass

    def _end_dead_lanes(self, fetch: Fetch, *, only_if: bool = True) -> None:
        for lane, deadline in list(fetch.lanes.items()):
            if only_if and deadline <= self.now:
                fetch.disband(lane, self.now)

    def _step(self, fetch: Fetch) -> bool:
        """The next thing that is due for a settled fetch; False if nothing is."""
        if not fetch.result:
            return False
        over = fetch.settled_at + RETENTION <= self.now
        if over:
            for event in fetch.events:
                for delivery in event.owed.values():
                    if not delivery.outcome:
                        self.settle(fetch, event, delivery, "expired")
        if fetch.released_at is None:
            done = fetch.owed_to_nobody_else() and fetch.hold_until <= self.now
            if over or done:
                fetch.released_at = self.now
            return over or done
        if not fetch.purged:
            fetch.purged = fetch.released_at + GRACE <= self.now
            return fetch.purged
        fetch.gone = over
        return over
