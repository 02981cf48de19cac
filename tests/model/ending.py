"""What must come to an end: the work, and what is kept of it."""

from __future__ import annotations

from tests.model.comparing import compare, compare_leavings, same
from tests.model.fetches import GRACE, LEASE, RETENTION
from tests.model.producing import Producing
from tests.model.scope import Told
from tests.model.subscribing import Subscribing
from tests.model.working import Working

_ROUNDS = 6
"""More than a delivery can have to wait for: for its lease, and the event before it."""


class Ending:
    """Lets all go well, and all be forgotten."""

    def __init__(
        self, producing: Producing, working: Working, subscribing: Subscribing
    ) -> None:
        self._producing = producing
        self._working = working
        self._subscribing = subscribing
        self._scope, self._world = producing.scope, producing.world

    async def finish(self) -> None:
        """Every fetch ends, and all that is owed is settled or a dead letter (R25)."""
        for fetch in self._scope.retained:
            if fetch.paused:
                await self._producing.resume(fetch)
        for number in list(self._world.processes):
            await self._subscribing.extend(number)
        for _ in range(_ROUNDS):
            await self._working.pass_time(LEASE + 1)
            await self._working.reclaim()
            while await self._working.take(9):
                await self._work()
            for name in sorted(self._scope.subscribers):
                await self._subscribing.handle_all(name)
        same("active in the end", list(self._scope.active), [])
        late = [
            f"{event.name} at {name}: {each.status}"
            for fetch in self._scope.retained
            for event in fetch.events
            for name, each in event.owed.items()
            if not each.outcome and each.status != "dead"
        ]
        same("owed in the end", late, [])

    async def _work(self) -> None:
        for number in list(self._world.lanes):
            while number in self._world.lanes:
                known = sorted(self._world.lanes[number].known)
                told = [Told(index, 1, 0, "success", None) for index in known]
                await self._working.report(number, told, 9)
                if not known:
                    break

    async def forget(self) -> None:
        """Past the retention, and without subscribers, nothing is left in Redis."""
        for fetch in self._scope.retained:
            if not fetch.result:
                await self._producing.abort(fetch)
        for hours in (RETENTION + 1, GRACE + 1):
            await self._working.pass_time(hours)
            await self._working.reclaim()
            await compare(self._scope, self._world)
        same("retained", [fetch.id for fetch in self._scope.retained], [])
        await self._working.pass_time(LEASE + 1)
        for name in sorted(self._scope.subscribers):
            await self._subscribing.remove(name)
        await compare_leavings(self._world)
