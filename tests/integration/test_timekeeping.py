"""A pass that takes long is no gap in time (R15)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from typing_extensions import override

from broker.agenda import Agenda
from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from broker.tasks import cancel_all
from workers.reclaim import Reclaimer


class SlowAgenda(Agenda):
    """A look at what is due lasts until Redis has been told of time five times."""

    told = 0

    def __init__(self, manager: BackgroundFetchManager, settings: Settings) -> None:
        super().__init__(manager.connection, settings)
        self._often = asyncio.Event()
        self.passed = asyncio.Event()

    @override
    async def grace(self, lease: timedelta, *, name: str = "") -> timedelta:
        self.told += 1
        if self.told >= 5:
            self._often.set()
        return await super().grace(lease, name=name)

    @override
    async def due(self) -> list[FetchKeys]:
        await self._often.wait()
        self.passed.set()
        return await super().due()


async def test_a_reclaimer_tells_that_time_passes_while_its_pass_takes_long(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """R15, guarantee 7: else every pass would find a gap, and give grace for ever."""
    quick = settings.model_copy(update={"lease": timedelta(milliseconds=200)})
    agenda = SlowAgenda(manager, quick)
    reclaimer = Reclaimer(agenda, manager.queue, None, quick)
    passes = asyncio.create_task(reclaimer.run())

    async with asyncio.timeout(30):
        await agenda.passed.wait()

    await cancel_all([passes])
