"""Who comes to a slot, and when: in order, and nobody for ever last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

import pytest

from broker.origins import Grant
from workers.origin_slots import OriginBusy, OriginSlots, Slot
from workers.slots import Slots

T = TypeVar("T")
A, B = "http://a", "http://b"


async def soon(work: Awaitable[T]) -> T:
    async with asyncio.timeout(20):
        return await work


class Line:
    """Waits for slots, and keeps those that it gets."""

    wanted = 1

    def __init__(self, name: str, served: list[str]) -> None:
        self.slots: list[Slot] = []
        self.refused: list[OriginBusy] = []
        self._name = name
        self._served = served

    def admit(self, slot: Slot) -> None:
        """See ``Waiter``."""
        self.slots.append(slot)
        self._served.append(self._name)

    def refuse(self, busy: OriginBusy) -> None:
        """See ``Waiter``."""
        self.refused.append(busy)


async def test_turns_of_one_origin_come_in_order_and_leave_others_alone() -> None:
    slots, served = Slots(9, 1), list[str]()
    first = slots.take(A)
    lines = [Line(name, served) for name in "xyz"]
    for line in lines:
        slots.line_up(A, line)
    overtaking, elsewhere = slots.take(A), slots.take(B)

    assert first is not None
    first.release()
    first.release()
    slots.leave(A, lines[1])
    lines[0].slots[0].release()

    assert overtaking is None
    assert elsewhere is not None
    assert served == ["x", "z"]


async def test_a_slot_that_is_short_goes_round_the_origins() -> None:
    slots, served = Slots(1, 9), list[str]()
    slot = slots.take(A)
    assert slot is not None
    lines = [Line(f"{origin}{n}", served) for n in (1, 2) for origin in (A, B)]
    for at, line in enumerate(lines):
        slots.line_up((A, B)[at % 2], line)

    slot.release()
    for _ in range(3):
        next(line for line in lines if line.slots).slots.pop().release()

    assert served == [f"{A}1", f"{B}1", f"{A}2", f"{B}2"]


async def test_a_cancelled_caller_passes_its_turn_on() -> None:
    """Also when both come in the same moment."""
    slots = Slots(9, 1)
    slot = slots.take(A)
    assert slot is not None
    tasks = [asyncio.create_task(slots.acquire(A)) for _ in range(4)]
    await asyncio.sleep(0)

    tasks[0].cancel()
    slot.release()
    tasks[1].cancel()
    await asyncio.wait(tasks[:2])
    (await soon(tasks[2])).release()
    (await soon(tasks[3])).release()

    assert not slots.origins


async def test_who_waits_for_too_long_is_sent_away() -> None:
    slots = Slots(9, 1, patience=0.01)
    slot = slots.take(A)
    assert slot is not None

    with pytest.raises(OriginBusy, match="every slot with the origin is taken"):
        await soon(slots.acquire(A))

    slot.release()
    assert not slots.origins


async def test_a_long_pause_sends_everybody_away_and_others_are_served() -> None:
    """Faults 58."""
    slots, line = Slots(9, 1, patience=10), Line("x", [])
    slot = slots.take(A)
    slots.line_up(A, line)
    waiting = asyncio.create_task(slots.acquire(A))
    await asyncio.sleep(0)

    slots.complained(A, "status 429", timedelta(minutes=5))

    with pytest.raises(OriginBusy, match="the origin asked to wait: status 429"):
        await soon(waiting)
    [busy] = line.refused
    assert timedelta(minutes=4) < busy.delay <= timedelta(minutes=5)
    with pytest.raises(OriginBusy):
        slots.take(A)
    assert slots.take(B) is not None
    assert slot is not None


async def test_a_short_pause_is_waited_for() -> None:
    slots = Slots(9, 1, patience=10)
    slots.complained(A, "status 503", timedelta(milliseconds=20))

    slot = await soon(slots.acquire(A))

    slot.release()


async def test_turns_that_another_grants_wait_for_the_grant() -> None:
    news: list[OriginSlots] = []
    slots = Slots(9, 5, stirred=news.append)
    waiting = [asyncio.create_task(slots.acquire(A)) for _ in range(3)]
    await asyncio.sleep(0)
    [own, *more] = news
    report = own.report(0.0, tick=False)

    own.heard(report, Grant(2, None), 0.0, 1e9)
    slots.serve(own)
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)

    assert (report.wanted, more) == (3, [own, own])
    assert own.taken == 2
    for task in done:
        task.result().release()
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


async def test_a_spare_slot_is_one_that_nobody_waits_for() -> None:
    """R25: whoever is modest comes last, however early."""
    slots, served = Slots(9, 1), list[str]()
    first, line = slots.take(A), Line("x", served)
    spare = asyncio.create_task(slots.spare(A))
    await asyncio.sleep(0)
    slots.line_up(A, line)

    assert first is not None
    first.release()
    [waited] = line.slots
    assert not spare.done()
    waited.release()

    (await soon(spare)).release()


async def test_a_spare_slot_is_wished_for_only_while_no_process_waits() -> None:
    """Else it would take the share of somebody's records."""
    stirred: list[OriginSlots] = []
    slots = Slots(9, 0, stirred=stirred.append)
    spare = asyncio.create_task(slots.spare(A))
    await asyncio.sleep(0)
    [own] = stirred

    wanted = own.wanted
    own.heard(own.report(0, tick=False), Grant(0, None, contended=True), 0, 1e12)
    while_others_wait = own.wanted
    spare.cancel()
    await asyncio.gather(spare, return_exceptions=True)

    assert (wanted, while_others_wait) == (1, 0)
    assert own.spare == 0


async def test_a_pause_of_the_origin_only_delays_a_spare_slot() -> None:
    slots = Slots(9, 1, patience=1)
    slots.complained(A, "status 429", timedelta(seconds=60))
    spare = asyncio.create_task(slots.spare(A))
    await asyncio.sleep(0)

    assert not spare.done()
    spare.cancel()
    await asyncio.gather(spare, return_exceptions=True)
