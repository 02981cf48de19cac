"""Several streams for one large file: the main one, and others ahead of it (R7).

The main stream is an exchange like that of any record, which goes on from the bytes
that are stored without a gap. Once its answer has told version and length, side streams
bring segments ahead of it, where it ends when it meets them. What they fail to bring is
left to each other, and in the end to the record's next exchange.

A disagreement between two answers makes the record begin again, for all streams at once
(R3). Then it comes by the main stream alone: origins that do not agree with each other
cannot make it begin for ever.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from anyio import CancelScope, to_thread
from typing_extensions import override

from broker.parts import FilePart
from broker.tasks import cancel_all
from schemas.records import ResponseHead
from workers import ranges
from workers.answer import Answer, Judge
from workers.exchange import Fault, Outgoing, TransferError
from workers.resources import Exchanges
from workers.segments import Plan
from workers.sides import File, Referee, Sides
from workers.work import Work

HASH_SECONDS = 0.2
"""How often is looked for bytes to be hashed that were stored out of order."""


class Exchanger(Judge, Referee, Protocol):
    """Makes the exchanges of a record, and judges their answers."""

    async def follow(self, outgoing: Outgoing, answer: Answer) -> None:
        """Exchange a request, and those to which redirects lead, for a final answer."""


class Streams:
    """The streams of one record, from each of its exchanges to the next."""

    def __init__(self, work: Work, exchanges: Exchanges, exchanger: Exchanger) -> None:
        self._work = work
        self._exchanges = exchanges
        self._exchanger = exchanger
        self._file: File | None = None

    @property
    def whole(self) -> bool:
        """Whether side streams have helped until every byte was stored."""
        return self._file is not None and self._work.length == self._file.plan.length

    def main(self, offset: int) -> Answer:
        """Take the answer of the main stream, which goes on from ``offset``."""
        return _Main(self, self._exchanger, self._work, offset)

    async def follow(self, outgoing: Outgoing, answer: Answer) -> None:
        """Carry the main stream, and side streams for as long as they get on.

        Raises:
            TransferError: bytes are missing; STOPPED where that is no failure.
        """
        self.outgoing = outgoing
        self._file = None
        fault: TransferError | None = None
        try:
            with CancelScope() as self._scope:
                try:
                    await self._exchanger.follow(outgoing, answer)
                except TransferError as error:
                    fault = error
            if self._file is not None:
                await self._go_on(self._file)
        finally:
            if self._file is not None:
                await cancel_all([*self._sides.tasks, self._hashing])
        if self._file is not None:
            await self._conclude(self._file.part, fault)
        elif fault is not None:
            raise fault

    def begin(self, head: ResponseHead, offset: int) -> None:
        """The main stream has an answer: see whether side streams can help it."""
        work, exchanges = self._work, self._exchanges
        validators, part, least = work.validators, work.part, exchanges.segment_size
        if work.restarts or validators is None or not isinstance(part, FilePart):
            return
        if work.metered:  # bytes ahead of others cannot wait for an allowance (R18)
            return
        length = validators.length or 0
        # Another piece of the file would end before the last segment.
        to_the_end = head.status == 200 or (offset > 0 and _goes_to_the_end(head))
        headers = work.request.header_list
        resumable = ranges.resumable(work.request.method, validators, headers)
        if to_the_end and resumable and length - offset >= 2 * least:
            plan = Plan(length, exchanges.streams, least)
            self._file = file = File(work, part, plan, self.outgoing)
            self._sides = Sides(
                file,
                exchanges,
                self._exchanger,
                self._scope.cancel,
                # A 206 with which the main stream goes on proves as much as any other.
                proved=offset > 0,
            )
            self._hashing = asyncio.create_task(self._hash(part))
            self._sides.fill()

    def write(self, chunk: bytes) -> bool:
        """Store bytes of the main stream, until it meets those of a side stream."""
        work, file = self._work, self._file
        if file is None:
            return work.write(chunk)
        bound = file.plan.bound(work.length, file.part.spans)
        room = bound - work.length
        if bound == file.plan.length or len(chunk) < room:
            return work.write(chunk)
        if room:
            work.write(chunk[:room])
        return False

    async def _go_on(self, file: File) -> None:
        """Let side streams bring what the main one left, while one of them does."""
        sides = self._sides
        sides.main = False
        file.part.join()
        while not (self.whole or sides.over):
            sides.fill()
            if not file.plan.active:
                return
            sides.changed.clear()
            await sides.changed.wait()

    async def _conclude(self, part: FilePart, fault: TransferError | None) -> None:
        """Leave the record to its next exchange, or return if it is whole."""
        sides, stopped = self._sides, TransferError(Fault.STOPPED, "streams have met")
        if sides.error is not None:
            raise sides.error
        if sides.disagreement:
            self._work.begin_again(sides.disagreement)
        if sides.over:
            raise stopped
        await _catch_up(part)
        if self.whole:
            return
        if fault is None or fault.fault is Fault.STOPPED:
            fault = sides.fault
        raise fault or stopped

    async def _hash(self, part: FilePart) -> None:
        try:
            while True:
                await asyncio.sleep(HASH_SECONDS)
                await _catch_up(part)
        except Exception as error:
            self._sides.fail(error)


class _Main(Answer):
    """Takes the answers to the main stream's requests."""

    def __init__(self, streams: Streams, judge: Judge, work: Work, offset: int) -> None:
        super().__init__(judge, work, offset)
        self._streams = streams

    @override
    def hop(self, outgoing: Outgoing) -> None:
        super().hop(outgoing)
        self._streams.outgoing = outgoing

    @override
    def head(self, head: ResponseHead) -> bool:
        wanted = super().head(head)
        if wanted:
            self._streams.begin(head, self._offset)
        return wanted

    @override
    def write(self, chunk: bytes) -> bool:
        return self._streams.write(chunk)


async def _catch_up(part: FilePart) -> None:
    """Read back what was stored out of order and has no gap before it now (R6)."""
    while part.behind:
        await to_thread.run_sync(part.catch_up)


def _goes_to_the_end(head: ResponseHead) -> bool:
    found = ranges.parse_content_range(head.get_all("Content-Range"))
    return found is not None and found.complete == found.last + 1
