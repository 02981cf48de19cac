"""Complete one record: attempts, redirects, resumption, restarts (§ complete a record).

The decisions are pure and stand elsewhere: ``ranges`` judges an answer, ``redirects``
names the next hop, ``retry`` says whether and when to try again, ``verification`` what
digests the bytes must have. Here they are acted upon. A completion ends with its record
settled, or given back to the pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import structlog

from broker.codings import decoder_of
from broker.settings import milliseconds
from schemas.errors import StorageError, UndecodableBody
from schemas.integrity import Demand
from schemas.policies import ScopePolicy
from schemas.records import RecordResult, ResponseHead
from schemas.secrets import referring
from schemas.urls import origin_of
from workers import ranges
from workers.answer import Answer
from workers.exchange import Body, Fault, Outgoing, TransferError
from workers.origin_slots import OriginBusy, Slot
from workers.redirects import RedirectRefused, next_hop
from workers.resources import Exchanges
from workers.retry import Retry, Settle, decide, retry_after
from workers.streams import Streams
from workers.uploads import Elsewhere
from workers.verification import by_origin, demands
from workers.work import Work

log = structlog.get_logger()

OVERLOADED = (429, 503)
"""Statuses with which an origin says that it is asked too much."""
MAX_EMPTY_ANSWERS = 5
"""Answers in a row without a new byte before the record fails (BF-REC-27)."""
_UNKNOWN = "an earlier attempt was interrupted, and may have reached the origin"


class Completion:
    """Works on one record until it is decided what becomes of it."""

    def __init__(
        self,
        work: Work,
        exchanges: Exchanges,
        elapsed: timedelta,
        scope: str,
        policy: ScopePolicy,
        slot: Slot,
        declare: Callable[[Work], Awaitable[None]],
    ) -> None:
        """``elapsed`` is the age of the fetch, which has a deadline and a scope.

        ``slot`` is one with the origin of the request; ``declare`` returns once Redis
        knows that the attempt of a work begins.
        """
        self._work = work
        self._slot: Slot | None = slot
        self._exchanges = exchanges
        self._elapsed = elapsed
        self._scope = scope
        self._policy = policy
        self._declare = declare
        names = {name.lower() for name, _ in work.request.header_list}
        # A range of the caller's own is the resource, and not resumable (BF-RANGE-18).
        self._user_range = "range" in names
        self._whole = False
        several = exchanges.streams > 1
        self._streams = Streams(work, exchanges, self) if several else None

    async def run(self) -> None:
        """Exchange requests and answers until the work is decided, or out of time."""
        work, limit = self._work, self._exchanges.record_deadline
        if limit is None:
            await self._run()
            return
        if work.began is None:
            work.began = milliseconds(self._elapsed)
        left = timedelta(milliseconds=work.began) + limit - self._elapsed
        deadline = asyncio.timeout(left.total_seconds())
        try:
            async with deadline:
                await self._run()
        except TimeoutError:
            if not deadline.expired():
                raise
            limited = f"{limit.total_seconds():g} s of its first attempt"
            work.fail(f"no end within {limited} (BGFETCH_RECORD_DEADLINE)")

    async def _run(self) -> None:
        work, idle = self._work, 0
        try:
            await work.open()
            while not work.decided:
                before = work.length
                await self._exchange()
                idle = idle + 1 if work.length == before else 0
                if idle > MAX_EMPTY_ANSWERS:
                    work.fail("the origin keeps answering without a new byte")
            if self._exchanges.store.remote:
                await work.keep()
        except StorageError as error:
            work.storage_failed(error)
        except OriginBusy as busy:
            # The first exchange had its slot, and may have been all that is allowed.
            if work.repeatable:
                self._exchanges.postpone(work, busy, self._elapsed)
            else:
                work.fail(f"{Fault.OFFLINE}: {busy.detail}")

    async def _exchange(self) -> None:
        """One request, its redirects included, and what its answer means."""
        work = self._work
        if work.length and not self._can_resume():
            work.begin_again("the origin gave no proof of its version")
        if work.attempts and not work.repeatable:
            work.fail(f"{work.request.method} is sent once: {work.detail or _UNKNOWN}")
            return
        offset, self._whole = work.length, False
        streams = self._streams
        answer = Answer(self, work, offset) if streams is None else streams.main(offset)
        follow = self.follow if streams is None else streams.follow
        try:
            async with self._exchanges.opened(work.request) as body:
                await self._begin_attempt()
                await follow(self._outgoing(offset, body), answer)
        except Elsewhere as error:
            self._wait_for_store(str(error))
        except RedirectRefused as error:
            work.fail(str(error))
        except TransferError as error:
            if error.fault is not Fault.STOPPED:
                self._after_fault(error.fault, error.detail, offset)
        else:
            if answer.stored is not None:
                self._after_body(answer.stored, offset)
        if self._whole:
            await self._finish(answer.stored)

    async def _begin_attempt(self) -> None:
        """Count an attempt; one of which there is no second first becomes known."""
        self._work.attempts += 1
        if not self._work.repeatable:
            await self._declare(self._work)

    def _wait_for_store(self, detail: str) -> None:
        """Leave the record to a worker that has its body, until the deadline (R4)."""
        delay = self._exchanges.policy.cap
        if self._elapsed + delay >= self._exchanges.deadline_of(self._work):
            self._work.fail(detail)
        else:
            log.warning("body_elsewhere", url=self._work.request.url, detail=detail)
            self._work.give_back(delay, detail)

    def _can_resume(self) -> bool:
        work = self._work
        return work.validators is not None and ranges.resumable(
            work.request.method, work.validators, work.request.header_list
        )

    def _outgoing(self, offset: int, body: Body | None) -> Outgoing:
        request, validators = self._work.request, self._work.validators
        filled = self._exchanges.secrets.headers(request, self._scope)
        headers = [*filled, ("Accept-Encoding", "identity")]
        if offset and validators is not None:
            headers += ranges.range_headers(offset, validators)
        return Outgoing(request.method, request.url, tuple(headers), body)

    async def follow(self, outgoing: Outgoing, answer: Answer) -> None:
        """Exchange a request, and those to which redirects lead, for a final answer."""
        request, hops = self._work.request, 0
        while True:
            slot, self._slot = self._slot, None
            await self._exchanges.transport.exchange(
                outgoing, answer, uploaded=self._uploaded, slot=slot
            )
            if answer.redirect is None:
                return
            hop = next_hop(
                outgoing,
                answer.redirect,
                count=hops,
                mode=request.redirect,
                policy=self._exchanges.addresses,
                refusal=self._policy.refusal,
                secrets=referring(request.header_list),
            )
            if hop is None:
                return
            if hop.body is not None:
                hop.body.rewind()
            outgoing, hops = hop, hops + 1
            answer.hop(hop)

    def _uploaded(self, count: int) -> None:
        self._work.uploaded = max(self._work.uploaded, count)

    def note(self, head: ResponseHead) -> None:
        """Tell all workers how the origin fares: an answer may ask for less."""
        exchanges, origin = self._exchanges, origin_of(head.url)
        if head.status in OVERLOADED:
            asked = retry_after(head, datetime.now(UTC))
            pause = min(asked, exchanges.policy.retry_after_cap)
            exchanges.slots.complained(origin, f"status {head.status}", pause)
        elif head.status < 500:
            exchanges.slots.answered(origin)

    def judge(self, head: ResponseHead, offset: int) -> bool:
        """Decide at the head what an answer is worth; True if its body is wanted."""
        work = self._work
        if self._wait_instead(head, offset):
            return False
        verdict = ranges.judge(
            head,
            stored=offset,
            sent=work.validators if offset else None,
            range_sent=offset > 0,
            method=work.request.method,
            restarts=work.restarts,
            user_range=self._user_range,
        )
        match verdict:
            case ranges.Fail(reason):
                work.fail(reason)
            case ranges.Complete():
                self._whole = True
            case ranges.Restart(reason):
                work.begin_again(reason)
            case ranges.Store(start, new_part):
                if new_part and work.part is not None:
                    work.begin_again("the resource changed")
                if start == 0:
                    work.begin_part(head)
                return work.fits()
        return False

    def _wait_instead(self, head: ResponseHead, offset: int) -> bool:
        """Give the record back if the status is worth another attempt."""
        if head.status < 400:
            return False
        decision = self.decide(head, offset, self._work.failures + 1)
        if not isinstance(decision, Retry):
            return False
        self._work.failures += 1
        self._work.give_back(decision.delay, f"status {head.status}")
        return True

    def _after_body(self, head: ResponseHead, offset: int) -> None:
        work = self._work
        if self._streams is not None and self._streams.whole:
            self._whole = True
            return
        ending = ranges.finished(
            head,
            work.length,
            method=work.request.method,
            user_range=self._user_range,
        )
        match ending:
            case ranges.Ending.TRUNCATED:
                self._after_fault(Fault.NETWORK, "the body ended early", offset)
            case ranges.Ending.OVERLONG if work.restarts < ranges.MAX_RESTARTS:
                work.begin_again("BF-RANGE-06: more bytes than announced")
            case ranges.Ending.OVERLONG:
                work.fail("BF-RANGE-06: more bytes than announced")
            case ranges.Ending.FINISHED:
                self._whole = True

    async def _finish(self, latest: ResponseHead | None) -> None:
        """Settle a whole record, if its bytes are what they have to be (R6)."""
        work, first = self._work, self._work.head
        assert first is not None
        head, wrong = latest or first, ""
        if not 200 <= head.status <= 299:
            wrong = f"status {head.status} {head.status_text}".rstrip()
        for demand in demands(work.request, first, latest, user_range=self._user_range):
            # Until this is known the record is open, and its lane keeps its lease.
            try:
                found = await self._digest(demand, first)
            except UndecodableBody as error:
                work.fail(f"{demand.source}: {error}")
                return
            if not demand.met_by(found):
                refusal = demand.refusal(found)
                self._mismatched(demand, f"{wrong}; {refusal}" if wrong else refusal)
                return
        work.settle(RecordResult.BAD_STATUS if wrong else RecordResult.SUCCESS, wrong)

    async def _digest(self, demand: Demand, head: ResponseHead) -> bytes:
        # An origin speaks of what it sends; Fetch checks integrity after decoding.
        limits = self._exchanges.decoding
        decoder = None if by_origin(demand) else decoder_of(head, limits)
        return await self._work.digest(demand.algorithm, decoder)

    def _mismatched(self, demand: Demand, detail: str) -> None:
        """Fail, but once try bytes again that the origin's own digest disowns."""
        work = self._work
        again = by_origin(demand) and work.request.method == "GET"
        if again and not work.mismatches and work.restarts < ranges.MAX_RESTARTS:
            work.mismatches += 1
            work.begin_again(detail)
        else:
            work.fail(detail)

    def _after_fault(self, fault: Fault, detail: str, offset: int) -> None:
        work, offline = self._work, fault is Fault.OFFLINE
        # An origin that is away does not use up the attempts at one that is there.
        failures = 1 + (work.unreached if offline else work.failures)
        decision = self.decide(fault, offset, failures)
        if not isinstance(decision, Retry):
            work.fail(f"{fault}: {detail}")
            return
        if offline:
            work.unreached += 1
        else:
            work.failures, work.unreached = work.failures + 1, 0
        work.give_back(decision.delay, f"{fault}: {detail}")

    def decide(
        self, outcome: ResponseHead | Fault, offset: int, failures: int
    ) -> Retry | Settle:
        """Decide on an attempt that began at ``offset``, by the rules of retries."""
        work = self._work
        # Progress pardons earlier failures, but not for ever anew (BF-RANGE-16).
        if work.length > offset and work.restarts <= ranges.MAX_RESTARTS:
            failures = 1
            work.failures = work.unreached = 0
        return decide(
            outcome,
            method=work.request.method,
            headers=work.request.header_list,
            attempts_without_progress=failures,
            elapsed=self._elapsed,
            deadline=self._exchanges.deadline_of(self._work),
            policy=self._exchanges.policy,
            rng=self._exchanges.random,
            now=datetime.now(UTC),
        )
