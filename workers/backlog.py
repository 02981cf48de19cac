"""The records that a lane has claimed and not begun: they wait for their origins.

Each origin has a queue of its own, so that one which is paused, or has no slot to give,
holds up none of the others. They are served in slot, one record each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from schemas.urls import origin_of
from workers.origin_slots import OriginBusy, Slot
from workers.slots import Slots
from workers.work import Work


@dataclass(frozen=True, slots=True)
class Ways:
    """How records leave a backlog."""

    room: Callable[[], int]
    """How many more may be begun."""
    begin: Callable[[Work, Slot], None]
    postpone: Callable[[Work, OriginBusy], None]


class Backlog:
    """Begins records as room, and the slots of their origins, allow."""

    def __init__(self, slots: Slots, ways: Ways) -> None:
        self._slots = slots
        self._ways = ways
        self._ready: dict[str, _Queue] = {}
        self._lined_up: dict[str, _Queue] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Work]:
        for queue in (*self._ready.values(), *self._lined_up.values()):
            yield from queue.works

    @property
    def stuck(self) -> int:
        """Records whose origins have no slot for them now."""
        return sum(len(queue.works) for queue in self._lined_up.values())

    def add(self, work: Work) -> None:
        """Put a record behind those of its origin."""
        origin = origin_of(work.request.url)
        queue = self._ready.get(origin) or self._lined_up.get(origin)
        if queue is None:
            queue = self._ready[origin] = _Queue(self, origin)
        queue.works.append(work)
        self._size += 1

    def serve(self) -> None:
        """Begin what may be begun now, and wait for slots for the rest."""
        while self._ready and self._ways.room() > 0:
            origin = next(iter(self._ready))
            self._serve(self._ready.pop(origin))

    def send_away(self, busy: OriginBusy) -> None:
        """Postpone every record."""
        self.close()
        for queue in list(self._ready.values()):
            self.refuse(queue, busy)

    def close(self) -> None:
        """Wait for slots no more; the records stay."""
        self._ready |= self._lined_up
        for origin, queue in self._lined_up.items():
            self._slots.leave(origin, queue)
        self._lined_up.clear()

    def _serve(self, queue: _Queue) -> None:
        try:
            slot = self._slots.take(queue.origin)
        except OriginBusy as busy:
            self.refuse(queue, busy)
            return
        if slot is None:
            self._lined_up[queue.origin] = queue
            self._slots.line_up(queue.origin, queue)
        else:
            self._begin(queue, slot)

    def _begin(self, queue: _Queue, slot: Slot) -> None:
        work = queue.works.popleft()
        self._size -= 1
        if queue.works:
            self._ready[queue.origin] = queue
        self._ways.begin(work, slot)

    def admit(self, queue: _Queue, slot: Slot) -> None:
        """A queue has come to its slot."""
        del self._lined_up[queue.origin]
        if self._ways.room() > 0:
            self._begin(queue, slot)
        else:
            self._ready[queue.origin] = queue
            slot.release()
        self.serve()

    def refuse(self, queue: _Queue, busy: OriginBusy) -> None:
        """The origin of a queue will have no slots for long."""
        self._lined_up.pop(queue.origin, None)
        self._ready.pop(queue.origin, None)
        self._size -= len(queue.works)
        while queue.works:
            self._ways.postpone(queue.works.popleft(), busy)

    def wanted(self, queue: _Queue) -> int:
        """How many records of a queue could begin now, if it had the slots."""
        return max(0, min(len(queue.works), self._ways.room()))


class _Queue:
    """The records of one origin; ``origin_slots.Waiter``."""

    def __init__(self, backlog: Backlog, origin: str) -> None:
        self.origin = origin
        self.works: deque[Work] = deque()
        self._backlog = backlog

    @property
    def wanted(self) -> int:
        return self._backlog.wanted(self)

    def admit(self, slot: Slot) -> None:
        self._backlog.admit(self, slot)

    def refuse(self, busy: OriginBusy) -> None:
        self._backlog.refuse(self, busy)
