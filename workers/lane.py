"""A lane: many records of one fetch at once, their bookkeeping in batches (R1, R14).

Transfers run as tasks on the event loop. What they come to is gathered and told to
Redis in one script call for many records, which also keeps the lane's lease and hands
out more; a lane never makes a round trip for a single file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial

import structlog
from anyio import to_thread

from broker.connection import Connection
from broker.keys import FetchKeys
from broker.lanes import Answer, Claim, LaneHold, Opened, RecordReport, Refusal
from broker.settings import Settings
from broker.store import Durability, Part
from broker.tasks import cancel_all
from schemas.errors import Failure, StorageError, Unreachable
from schemas.policies import ScopePolicy
from workers.allowance import Allowance
from workers.backlog import Backlog, Ways
from workers.checkpoints import Checkpoints
from workers.complete import Completion
from workers.origin_slots import ALL_TAKEN, OriginBusy, Slot
from workers.resources import Exchanges
from workers.work import Work

log = structlog.get_logger()

BATCH = 64
"""Ended records that are told to Redis at once, at the latest after GATHER_SECONDS."""
GATHER_SECONDS = 0.05
PARKED = 64
"""Parts of records given back that a lane keeps open."""


class Lane:
    """One lane of one background fetch, from taking it to leaving it."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        exchanges: Exchanges,
        keys: FetchKeys,
    ) -> None:
        self.uid = keys.uid
        self._scope = keys.scope
        self._settings = settings
        self._exchanges = exchanges
        self._hold = LaneHold(connection, settings, keys)
        self._allowance = Allowance(0, 0)
        self._policy = ScopePolicy()
        self._backlog = Backlog(
            exchanges.slots, Ways(self._room, self._begin, self._postpone)
        )
        self._running: dict[asyncio.Task[None], Work] = {}
        self._ended: list[Work] = []
        self._parked: dict[int, Work] = {}
        self._declared: dict[Work, asyncio.Future[None]] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._urgent = False
        self._more = True
        """Whether there were as many records to claim as were wanted."""
        self._stuck_since = 0.0
        self._reported_at = 0.0
        self._moved_at = 0.0
        self._opened_at = 0.0
        self._age = timedelta(0)

    @property
    def admitted(self) -> Sequence[bytes]:
        """Jobs to enqueue, which got a place since this lane is over."""
        return self._hold.admitted

    async def run(self, job_id: str) -> Refusal | None:
        """Work until no record can be taken soon, or the fetch is over.

        Returns why the lane is over, None if it left by itself.
        """
        opened = await self._hold.take(job_id, self._capacity)
        if not isinstance(opened, Opened):
            return opened
        self._policy = opened.policy
        self._allowance = Allowance(
            opened.state.download_total,
            opened.state.downloaded,
            opened.policy.max_bytes,
            self._settings.max_record_bytes or 0,
            opened.granted,
            self.hurry,
        )
        self._age, self._opened_at = opened.age, self._now()
        self._stuck_since = self._now()
        self._more = len(opened.claims) >= self._capacity
        self._admit(opened.claims)
        checkpoints = Checkpoints(
            self._running.values,
            self._exchanges.store,
            self._settings.checkpoint_interval,
        )
        checkpoints.start()
        refusal: Refusal | None = None
        try:
            refusal = await self._work()
        finally:
            await checkpoints.stop()
            await self._close(refusal)
        return refusal

    def stop(self) -> None:
        """Keep what is there, give the records back and return soon.

        Requests that are sent once, and are on their way, come to their end first.
        """
        self._stopping = True
        self.hurry()

    def hurry(self) -> None:
        """Ask Redis soon whether the fetch still goes on."""
        self._urgent = True
        self._wake.set()

    @property
    def _capacity(self) -> int:
        # What waits for its origin leaves room for records that others may have.
        stuck = min(self._backlog.stuck, self._settings.lane_size)
        return self._settings.transfers + 2 * BATCH + stuck

    @property
    def _held(self) -> int:
        return len(self._backlog) + len(self._running) + len(self._ended)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _work(self) -> Refusal | None:
        while True:
            await self._something_to_tell()
            if self._stopping:
                await self._give_back()
            answer = await self._tell()
            if answer.refusal is not None:
                return answer.refusal
            if answer.paused:
                self.stop()
            if self._stopping and not (self._running or self._ended):
                await self._hold.leave()
                return None
            self._admit(answer.claims)
            self._make_room()
            if not self._held:
                wait = answer.next_due
                if wait is None or wait > self._settings.lease:
                    await self._hold.leave()
                    return None
                await self._pause(wait)

    def _make_room(self) -> None:
        """Leave the place to other lanes if no origin has had a slot for a lease."""
        lease, now = self._settings.lease, self._now()
        if self._running or self._ended or not len(self._backlog):
            self._stuck_since = now
        elif now - self._stuck_since > lease.total_seconds():
            delay = lease * self._exchanges.random.uniform(1.5, 2.5)
            self._backlog.send_away(OriginBusy(delay, ALL_TAKEN))

    async def _something_to_tell(self) -> None:
        """Return when a batch has ended, at the next tick, or on a signal."""
        if not self._held:
            return
        await self._sleep(self._settings.progress_interval.total_seconds())
        if self._running and 0 < len(self._ended) < BATCH:
            await self._sleep(GATHER_SECONDS)

    async def _sleep(self, seconds: float) -> None:
        """Sleep until woken, at most so long."""
        if not self._urgent:
            timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
            await self._wake.wait()
            timer.cancel()
        self._wake.clear()

    async def _pause(self, wait: timedelta) -> None:
        """Wait for a record that is due again; the lease lasts that long."""
        beat = self._settings.lease / 3
        await self._sleep(min(wait, beat).total_seconds())

    def _admit(self, claims: Sequence[Claim]) -> None:
        known = {work.index for work in self._working()} if claims else set()
        store, digest = self._exchanges.store, self._settings.digest
        for claim in claims:
            if claim.index not in known:
                parked = self._parked.pop(claim.index, None)
                work = Work(
                    claim,
                    store,
                    self._allowance,
                    parked,
                    digest=digest,
                    threads=self._exchanges.threads,
                )
                self._backlog.add(work)
        self._backlog.serve()

    def _working(self) -> Iterable[Work]:
        yield from self._backlog
        yield from self._running.values()
        yield from self._ended

    def _room(self) -> int:
        if self._stopping:
            return 0
        return self._settings.transfers - len(self._running)

    @property
    def _elapsed(self) -> timedelta:
        return self._age + timedelta(seconds=self._now() - self._opened_at)

    def _begin(self, work: Work, slot: Slot) -> None:
        completion = Completion(
            work,
            self._exchanges,
            self._elapsed,
            self._scope,
            self._policy,
            slot,
            self._declare,
        )
        task = asyncio.create_task(completion.run())
        self._running[task] = work
        task.add_done_callback(partial(self._end, slot))

    def _postpone(self, work: Work, busy: OriginBusy) -> None:
        self._exchanges.postpone(work, busy, self._elapsed)
        self._ended.append(work)
        self._wake.set()

    def _end(self, slot: Slot, task: asyncio.Task[None]) -> None:
        work = self._running.pop(task)
        slot.release()  # also where the task was cancelled before it had begun
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("record_raised", index=work.index, exc_info=error)
            work.fail(f"internal error: {type(error).__name__}: {error}")
        if not work.void:
            self._ended.append(work)
        self._backlog.serve()
        if len(self._ended) == 1 or len(self._ended) >= BATCH or not self._running:
            self._wake.set()

    async def _tell(self) -> Answer:
        """Tell Redis what ended and how far the rest is; return its answer."""
        ended, self._ended = self._ended, []
        await self._store(ended)
        declared, self._declared = self._declared, {}
        moved = list(dict.fromkeys([*self._moved(), *declared]))
        beat = (
            self._now() - self._reported_at > self._settings.lease.total_seconds() / 3
        )
        # Records that wait for their origin make room for others.
        claim = self._more and self._capacity - self._held >= BATCH
        if not (ended or moved or beat or self._urgent or claim or not self._held):
            return Answer(None)
        self._urgent = False
        reports = [work.report() for work in (*ended, *moved)]
        answer = await self._report(reports)
        if answer.refusal not in (None, Refusal.ENDED):
            self._ended = ended  # for _close, which deletes what Redis does not name
            return answer
        lost: list[Work] = []
        for work, report in zip((*ended, *moved), reports, strict=True):
            if report.index in answer.stale:
                lost.append(work)
                continue
            work.reported(report)
            if report.delay is not None:
                self._park(work)
        if lost:
            await self._lose(lost)
        for heard in declared.values():
            if not heard.done():
                heard.set_result(None)
        return answer

    async def _declare(self, work: Work) -> None:
        """Return once Redis knows of an attempt that nobody may make again."""
        heard = self._declared[work] = asyncio.get_running_loop().create_future()
        self._wake.set()
        await heard

    async def _lose(self, works: Collection[Work]) -> None:
        """Give up records that this lane does not hold, and never report on them.

        It may get them again in the same answer, from a Redis that lost its last
        writes: then as new work, since their state is no longer what it was.
        """
        for work in works:
            work.void = True
        tasks = [task for task, work in self._running.items() if work in works]
        await cancel_all(tasks)
        self._ended = [work for work in self._ended if not work.void]
        await self._discard(works)

    async def _discard(self, works: Iterable[Work]) -> None:
        """Delete the parts of void work, but none that Redis names (R3).

        Only Redis can tell: a report may have done its work though its answer was lost,
        and named a part, even a blob, that another lane has taken over since.
        """
        parts = {work.index: name for work in works if (name := work.discard())}
        if parts:
            with suppress(Failure, StorageError):  # what is left here, a sweep finds
                named = await self._hold.named(list(parts))
                names = set(parts.values()) - named
                await to_thread.run_sync(self._exchanges.store.delete, names)

    def _park(self, work: Work) -> None:
        """Keep a part open for its next attempt, so that it is not read back."""
        if len(self._parked) < PARKED:
            self._parked[work.index] = work
        else:
            work.discard()

    def _moved(self) -> list[Work]:
        """The open records of which there is news, once in a progress interval."""
        interval = self._settings.progress_interval.total_seconds()
        if self._now() - self._moved_at < 0.8 * interval:
            return []
        self._moved_at = self._now()
        # A transfer that has just been decided is told of when its part is a blob.
        open_works = [work for work in self._running.values() if not work.decided]
        return [work for work in open_works if work.flush()]

    async def _store(self, ended: Sequence[Work]) -> None:
        whole = [work for work in ended if work.whole]
        if whole:
            parts = [work.part for work in whole if work.part is not None]
            for work, failure in zip(whole, await self._finish(parts), strict=True):
                work.stored(failure)
        for work in ended:
            if work.delay is not None:
                with suppress(StorageError):
                    await work.make_checkpoint()

    async def _finish(self, parts: Sequence[Part]) -> list[StorageError | None]:
        finish = self._exchanges.store.finish
        # Without a sync nothing waits for the disk, and the two threads would get in
        # each other's way at every system call: a sixth of the CPU of small files.
        remote = self._exchanges.store.remote
        if self._settings.durability is Durability.NONE and not remote:
            return finish(parts)
        return await to_thread.run_sync(finish, parts, abandon_on_cancel=remote)

    async def _report(self, reports: Sequence[RecordReport]) -> Answer:
        """Report until Redis answers; transfers go on meanwhile (§ lost replies)."""
        pause = 0.1
        while True:
            held = self._held
            want = 0 if self._stopping else max(0, self._capacity - held)
            need, keep = self._allowance.claim()
            try:
                answer = await self._hold.report(
                    reports, want=want, held=held, need=need, keep=keep
                )
            except Unreachable as error:
                if self._stopping:
                    raise
                log.warning("lane_waits_for_redis", uid=self.uid, error=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, 2.0)
            else:
                self._reported_at = self._now()
                if answer.refusal is None:
                    self._allowance.grant(answer.granted, need)
                self._more = len(answer.claims) >= want > 0 or (self._more and not want)
                return answer

    async def _give_back(self) -> None:
        """Stop the transfers that others can go on with, keep their bytes."""
        stopped = {
            task: work
            for task, work in self._running.items()
            if work.repeatable or not work.attempts
        }
        await cancel_all(stopped)
        for work in stopped.values():
            work.give_back(timedelta(0))

    async def _cancel(self) -> None:
        await cancel_all(self._running)

    async def _close(self, refusal: Refusal | None) -> None:
        self._backlog.close()
        await self._cancel()
        works = (*self._working(), *self._parked.values())
        if refusal is not None:
            await self._discard(works)
        for work in works:
            work.discard()
