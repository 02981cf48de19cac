"""Random histories of what processes say about an origin, and hear, or do not hear."""

from __future__ import annotations

import math
import random

import pytest

from broker.manager import BackgroundFetchManager
from broker.origins import Grant, OriginReport, Origins
from broker.settings import Settings
from workers.origin_slots import OriginBusy, OriginSlots, Slot


class _Worker:
    """A process as the script sees it: its slots, and what it has been told."""

    def __init__(self, origins: Origins) -> None:
        self.origins = origins
        self.own = OriginSlots("http://crowded.example")
        self.line = _Wanting()
        self.own.line.append(self.line)
        self.report: OriginReport | None = None
        self.grant: Grant | None = None

    async def act(self, choose: random.Random) -> None:
        """Do one of the things that a process does, in any order."""
        match choose.randrange(7):
            case 0:
                self.line.wanted = choose.randrange(9)
            case 1 | 2:
                while self.own.ready_at(0.0) <= 0.0 and self.line.wanted:
                    self.own.take(0.0)
                    self.line.wanted -= 1
            case 3:
                self.own.taken -= choose.randint(0, self.own.taken)
            case 4 | 5 if self.report is None:
                self.report = self.own.report(0.0, tick=choose.random() < 0.5)
                [self.grant] = await self.origins.renew([self.report])
                if choose.random() < 0.2:  # the call is repeated after a lost answer
                    [self.grant] = await self.origins.renew([self.report])
            case 6 if self.report is not None and self.grant is not None:
                if choose.random() < 0.2:
                    self.own.unheard(self.report)
                else:
                    self.own.heard(self.report, self.grant, 0.0, math.inf)
                self.report = self.grant = None

    @property
    def might_run(self) -> int:
        """Exchanges that it could have at a time, whatever happens next."""
        return max(self.own.taken, self.own.limit(0.0))


class _Wanting:
    wanted = 0

    def admit(self, slot: Slot) -> None:
        raise AssertionError

    def refuse(self, busy: OriginBusy) -> None:
        raise AssertionError


@pytest.mark.parametrize("seed", range(5))
async def test_no_history_of_calls_exceeds_the_limit(
    manager: BackgroundFetchManager, settings: Settings, seed: int
) -> None:
    """R25: answers come late, twice or never; wishes and use change meanwhile."""
    choose, limit = random.Random(seed), 5
    polite = settings.model_copy(update={"origin_connections": limit})
    workers = [_Worker(Origins(manager.connection, polite)) for _ in range(4)]
    used = 0

    for _ in range(600):
        await choose.choice(workers).act(choose)
        used = max(used, sum(worker.own.taken for worker in workers))
        assert sum(worker.might_run for worker in workers) <= limit

    assert used > 1
