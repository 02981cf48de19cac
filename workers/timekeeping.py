"""Telling Redis that time passes here, beside the passes that take over (R15)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from broker.agenda import Agenda
from broker.settings import Settings
from broker.tasks import cancel_all
from schemas.errors import Failure, QuotaExceeded

_LEAST_PAUSE = 0.05  # s


@asynccontextmanager
async def keeping_time(
    agenda: Agenda, settings: Settings, *, name: str = ""
) -> AsyncIterator[None]:
    """Leave no gap while Redis answers: a pass that takes long is none.

    A pass makes many calls, and far from Redis it takes longer than half a lease. Told
    of by passes alone, each would find a gap and give grace, for ever.
    """
    telling = asyncio.create_task(_tell(agenda, settings, name))
    try:
        yield
    finally:
        await cancel_all([telling])


async def _tell(agenda: Agenda, settings: Settings, name: str) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + settings.lease.total_seconds() / 4
        with suppress(Failure, QuotaExceeded):
            await agenda.grace(settings.lease, name=name)
        await asyncio.sleep(max(_LEAST_PAUSE, due - loop.time()))
