"""The side streams of one large file: each brings a segment ahead of the main stream.

A segment is asked for with ``Range`` and ``If-Range``. The first 206 that is judged as
that of a resume is, and accepted, lets others follow (R7). From then on an answer of
another version ends all streams. Side streams are modest: each has a slot of its own,
and only one that nobody else wants; an answer that helps nobody ends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from broker.parts import BUFFER, FilePart
from schemas.records import ResponseHead
from schemas.urls import origin_of
from workers import ranges
from workers.exchange import Fault, Outgoing, TransferError
from workers.origin_slots import Slot
from workers.resources import Exchanges
from workers.retry import Retry, Settle
from workers.segments import Plan, Segment
from workers.work import Work

_VERSIONED = (200, 206, 416)
"""What an origin that knows the file answers to a range of it."""


class Referee(Protocol):
    """Knows the rules of a record."""

    def note(self, head: ResponseHead) -> None:
        """Hear of any answer."""

    def decide(
        self, outcome: ResponseHead | Fault, offset: int, failures: int
    ) -> Retry | Settle:
        """Decide on an attempt that began at ``offset``, by the rules of retries."""


@dataclass(frozen=True, slots=True)
class File:
    """What is brought, and how it is asked for."""

    work: Work
    part: FilePart
    plan: Plan
    outgoing: Outgoing
    """The request of the main stream, where redirects have led it."""


class Sides:
    """Side streams, from the main stream's answer until ``tasks`` are cancelled."""

    def __init__(
        self,
        file: File,
        exchanges: Exchanges,
        referee: Referee,
        stop: Callable[[], None],
        *,
        proved: bool,
    ) -> None:
        """``stop`` is called once the main stream has to end as well.

        With ``proved`` the main stream has shown that the origin answers ranges.
        """
        self.tasks: set[asyncio.Task[None]] = set()
        self.main = True
        """Whether there is still a main stream."""
        self.changed = asyncio.Event()
        """Set when a segment is over, or all are."""
        self.disagreement = ""
        """How an answer shows that there is another version."""
        self.error: BaseException | None = None
        """What is no fault of a transfer."""
        self.fault: TransferError | None = None
        """The latest that ended a segment."""
        self._file = file
        self._exchanges = exchanges
        self._referee = referee
        self._stop = stop
        self._proved = proved
        self._useless = False

    @property
    def over(self) -> bool:
        """Whether nothing more can come of the streams."""
        ended = self.disagreement or self.error is not None
        return bool(ended or self._file.work.decided)

    def fill(self) -> None:
        """Have as many side streams as may be; one only, until it has proved (R7)."""
        most = self._exchanges.streams - (1 if self.main else 0) if self._proved else 1
        while len(self.tasks) < most and not (self._useless or self.over):
            task = asyncio.create_task(self._bring())
            self.tasks.add(task)
            task.add_done_callback(self._ended)

    def stop(self) -> None:
        """End all streams."""
        self.changed.set()
        self._stop()

    def fail(self, error: BaseException) -> None:
        """End all streams with an error."""
        self.error = self.error or error
        self.stop()

    def note(self, head: ResponseHead) -> None:
        """Hear of any answer."""
        self._referee.note(head)

    def accepts(self, head: ResponseHead, segment: Segment) -> bool:
        """Judge the answer to a request for a segment; True if its body is wanted."""
        work, sent = self._file.work, self._file.work.validators
        if self.over or head.status not in _VERSIONED:
            return False
        verdict = ranges.judge(
            head,
            stored=segment.start,
            sent=sent,
            range_sent=True,
            method=work.request.method,
        )
        if isinstance(verdict, ranges.Store) and not verdict.new_part:
            self._proved = True
            self.fill()
            # The main stream does not stop for what is only asked for.
            free = work.length < segment.start
            segment.proved = free or (work.length == segment.start and not self.main)
            return segment.proved
        self._useless = True
        ignored = head.status == 200 and ranges.validators_of(head) == sent
        if self._proved and not ignored:
            why = getattr(verdict, "reason", "the resource changed")
            self.disagreement = f"segment from byte {segment.start} on: {why}"
            self.stop()
        return False

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    async def _bring(self) -> None:
        """Bring one segment after another, for as long as there are any."""
        origin, failures = origin_of(self._file.outgoing.url), 0
        while (
            segment := self._next(await self._exchanges.slots.spare(origin))
        ) is not None:
            slot, asked = segment
            outcome = await self._exchange(asked, slot)
            failures = 0 if asked.at > asked.start else failures
            if outcome is None:
                continue
            failures += 1
            offset = self._file.work.length
            decision = self._referee.decide(outcome, offset, failures)
            if isinstance(decision, Settle):
                self._useless = True
                return
            await asyncio.sleep(decision.delay.total_seconds())

    def _next(self, slot: Slot) -> tuple[Slot, Segment] | None:
        file = self._file
        if not (self._useless or self.over):
            length, stored = file.work.length, file.part.spans
            segment = file.plan.begin(length, stored, main=self.main)
            if segment is not None:
                return slot, segment
        slot.release()
        return None

    async def _exchange(
        self, segment: Segment, slot: Slot
    ) -> ResponseHead | Fault | None:
        """Ask for a segment and store it; return what went wrong, if anything."""
        side = _Side(self, self._file.work, segment)
        try:
            await self._exchanges.transport.exchange(
                self._asking(segment), side, slot=slot
            )
        except TransferError as error:
            side.flush()
            if error.fault is Fault.STOPPED:
                return None
            self.fault = error
            return error.fault
        else:
            side.flush()
            return side.refused
        finally:
            self._file.plan.end(segment)
            self.changed.set()

    def _asking(self, segment: Segment) -> Outgoing:
        outgoing, validators = self._file.outgoing, self._file.work.validators
        assert validators is not None
        headers = [
            (name, value)
            for name, value in outgoing.headers
            if name.lower() not in ("range", "if-range")
        ]
        headers += ranges.range_headers(segment.start, validators, segment.end)
        return replace(outgoing, headers=tuple(headers))


class _Side:
    """Takes the answer to the request for a segment. A ``transport.Sink``."""

    def __init__(self, sides: Sides, work: Work, segment: Segment) -> None:
        self.refused: ResponseHead | None = None
        """The head of an answer that says nothing of the file."""
        self._sides = sides
        self._work = work
        self._segment = segment
        self._blocks: list[bytes] = []
        self._from = segment.start

    def head(self, head: ResponseHead) -> bool:
        """Have the head judged."""
        self._sides.note(head)
        self.refused = None if head.status in _VERSIONED else head
        return self._sides.accepts(head, self._segment)

    def write(self, chunk: bytes) -> bool:
        """Gather bytes; store them when there are enough, or all others wait for them.

        The end of a segment may have moved since it was asked for.
        """
        segment = self._segment
        wanted = chunk[: segment.end - segment.at]
        self._blocks.append(wanted)
        segment.at += len(wanted)
        full = segment.at - self._from >= BUFFER
        if (full or self._from == self._work.length) and not self.flush():
            return False
        return len(wanted) == len(chunk)

    def flush(self) -> bool:
        """Store what was gathered; False if that is more than may be stored."""
        blocks, self._blocks = self._blocks, []
        if blocks and not self._work.put(self._from, blocks):
            self._sides.stop()
            return False
        self._from = self._segment.at
        return True
