"""The records of a lane that wait for their origins, each origin's for itself."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import cast

from workers.backlog import Backlog, Ways
from workers.origin_slots import OriginBusy, Slot
from workers.slots import Slots
from workers.work import Work

A, B = "http://a", "http://b"


class Lane:
    """Begins what its backlog hands it, as long as there is room."""

    def __init__(self, slots: Slots, room: int) -> None:
        self.begun: list[str] = []
        self.slots: list[Slot] = []
        self.postponed: dict[str, OriginBusy] = {}
        self.room = room
        ways = Ways(lambda: self.room, self._begin, self._postpone)
        self.backlog = Backlog(slots, ways)

    def add(self, *urls: str) -> None:
        """Claim records, and begin those that may be begun."""
        for url in urls:
            request = SimpleNamespace(url=url)
            self.backlog.add(cast("Work", SimpleNamespace(request=request)))
        self.backlog.serve()

    def end(self, at: int = 0) -> None:
        """Let an exchange end."""
        self.room += 1
        self.slots.pop(at).release()
        self.backlog.serve()

    def _begin(self, work: Work, slot: Slot) -> None:
        self.room -= 1
        self.begun.append(work.request.url)
        self.slots.append(slot)

    def _postpone(self, work: Work, busy: OriginBusy) -> None:
        self.postponed[work.request.url] = busy


async def test_origins_are_served_in_turn() -> None:
    lane = Lane(Slots(9, 9), room=2)

    lane.add(f"{A}/1", f"{A}/2", f"{A}/3", f"{B}/1")
    for _ in range(2):
        lane.end()

    assert lane.begun == [f"{A}/1", f"{B}/1", f"{A}/2", f"{A}/3"]
    assert len(lane.backlog) == 0


async def test_an_origin_without_a_slot_holds_up_no_other() -> None:
    lane = Lane(Slots(9, 1), room=3)

    lane.add(f"{A}/1", f"{A}/2", f"{A}/3", f"{B}/1")
    before = list(lane.begun), lane.backlog.stuck
    lane.end()

    assert before == ([f"{A}/1", f"{B}/1"], 2)
    assert lane.begun == [f"{A}/1", f"{B}/1", f"{A}/2"]
    assert [work.request.url for work in lane.backlog] == [f"{A}/3"]


async def test_a_lane_without_room_passes_a_slot_on_to_another() -> None:
    slots = Slots(9, 1)
    first, full, other = Lane(slots, 1), Lane(slots, 1), Lane(slots, 1)
    for lane in (first, full, other):
        lane.add(f"{A}/1")
    full.room = 0

    first.end()
    other.end()

    assert (full.begun, other.begun) == ([], [f"{A}/1"])
    full.room = 1
    full.backlog.serve()
    assert full.begun == [f"{A}/1"]


async def test_records_of_a_paused_origin_are_postponed_and_the_others_begin() -> None:
    """Faults 58."""
    slots = Slots(9, 1, patience=10)
    lane = Lane(slots, room=3)
    lane.add(f"{A}/1", f"{A}/2", f"{A}/3", f"{B}/1")

    slots.complained(A, "status 429", timedelta(minutes=1))
    lane.add(f"{A}/4", f"{B}/2")

    assert list(lane.postponed) == [f"{A}/2", f"{A}/3", f"{A}/4"]
    assert len(lane.backlog) == 1
    lane.end(at=1)
    assert lane.begun == [f"{A}/1", f"{B}/1", f"{B}/2"]


async def test_a_closed_backlog_takes_no_slot() -> None:
    slots = Slots(9, 1)
    first, closed = Lane(slots, 1), Lane(slots, 1)
    first.add(f"{A}/1")
    closed.add(f"{A}/2")

    closed.backlog.close()
    first.end()

    assert closed.begun == []
    assert [work.request.url for work in closed.backlog] == [f"{A}/2"]
    assert not slots.origins
