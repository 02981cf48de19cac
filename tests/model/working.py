"""What lanes do, and what the specification says that they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from broker.lanes import Answer, Claim, Opened, RecordReport
from schemas.records import RecordResult, RecordState
from tests.model.ageing import HOUR, pass_time
from tests.model.comparing import same
from tests.model.fetches import Fetch
from tests.model.scope import Scope, Told
from tests.model.world import Lane, World


class Working:
    """Workers of one scope, and the reclaimer."""

    def __init__(self, scope: Scope, world: World) -> None:
        self.scope = scope
        self.world = world
        self._numbers = 0

    async def take(self, want: int, *, lost: bool = False) -> bool:
        """A worker takes the next job; False if there is none.

        Where the job is ``lost``, nobody works on it: it was a hint (R1).
        """
        job = await self.world.pop_job()
        if job is None or lost:
            return job is not None
        uid = job.partition("-")[0]
        fetch, hold = self.scope.fetches[uid], self.world.hold(uid)
        wanted = self.scope.take(fetch, want)
        opened = await hold.take(job, want)
        await self.world.admit(hold)
        if not isinstance(opened, Opened):
            same("take", str(opened), wanted)
            return True
        same("take", "ok", wanted)
        number = self._numbers = self._numbers + 1
        takeable = len(fetch.takeable(self.scope.now))
        self._give(fetch, number, opened.claims)
        same("records taken", len(opened.claims), min(want, takeable))
        mine = {claim.index for claim in opened.claims}
        self.world.lanes[number] = Lane(uid, hold, mine)
        return True

    def _give(self, fetch: Fetch, lane: int, claims: Sequence[Claim]) -> None:
        for claim in claims:
            record = fetch.records[claim.index]
            same("claimed bytes", claim.stored, record.stored)
            same("claimed request", claim.request.method, record.method)
        self.scope.took(fetch, lane, {claim.index for claim in claims})

    async def report(self, number: int, told: list[Told], want: int) -> None:
        """A lane reports, also on records that it does not hold (any more)."""
        lane = self.world.lanes[number]
        fetch = self.scope.fetches[lane.uid]
        if self.world.connection.times > 1:
            # What the first call takes anew the repetition would be about, too.
            told = [each for each in told if each.index in lane.known]
        ends = {each.index for each in told if each.result or each.delay is not None}
        held = len(lane.known - ends)
        reports = [_report(each) for each in told]
        answer = await lane.hold.report(reports, want=want, held=held)
        await self.world.admit(lane.hold)
        verdict, stale = self.scope.report(fetch, number, told)
        if verdict == "ended" and self.world.connection.times > 1:
            verdict = "settled"  # as the repetition finds it
        same("report", _verdict(answer), verdict)
        if verdict in ("ok", "paused", "ended"):
            same("stale", answer.stale, stale)
        if answer.refusal is not None:
            del self.world.lanes[number]
            return
        same("open records", answer.open_records, fetch.open)
        lane.known = {i for i, each in enumerate(fetch.records) if each.lane == number}
        new = [claim for claim in answer.claims if claim.index not in lane.known]
        if verdict == "paused":
            same("records taken while paused", new, [])
        most = len(fetch.takeable(self.scope.now))
        self._give(fetch, number, new)
        lane.known |= {claim.index for claim in new}
        if verdict == "ok":
            times = self.world.connection.times
            assert min(want, most) <= len(new) <= min(times * want, most)

    async def leave(self, number: int) -> None:
        """A lane gives back what it holds."""
        lane = self.world.lanes.pop(number)
        await lane.hold.leave()
        await self.world.admit(lane.hold)
        self.scope.leave(self.scope.fetches[lane.uid], number)

    def crash(self, number: int) -> None:
        """A lane is gone without a word; its lease runs on."""
        del self.world.lanes[number]

    async def pass_time(self, hours: int) -> None:
        """Let time pass for everything."""
        await pass_time(self.world.connection, hours)
        self.scope.now += hours

    async def reclaim(self) -> None:
        """Let a reclaimer do everything that is due."""
        await self.world.reclaim()
        self.scope.reclaim()


def _report(told: Told) -> RecordReport:
    delay = None if told.delay is None else timedelta(milliseconds=told.delay * HOUR)
    return RecordReport(
        told.index,
        told.stored,
        told.uploaded,
        RecordResult(told.result),
        delay,
        RecordState(),
    )


def _verdict(answer: Answer) -> str:
    if answer.refusal is not None:
        return str(answer.refusal)
    return "paused" if answer.paused else "ok"
