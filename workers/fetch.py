"""RQ's entry point: one lane job, in whichever worker runs it (R1)."""

from __future__ import annotations

import asyncio

from broker.queue import running_job
from broker.settings import Settings
from workers.engine import Engine


def perform(scope: str, uid: str) -> None:
    """Carry one lane of a background fetch to its end, in a loop of its own.

    For ``rq worker``, which runs one job at a time. ``bgfetch worker`` carries many
    lanes on one loop instead, and runs a reclaimer, which a stock worker lacks.
    """
    asyncio.run(_perform(scope, uid))


async def _perform(scope: str, uid: str) -> None:
    engine = Engine(Settings.load(), reclaiming=False)
    try:
        await engine.start()
        await engine.perform(scope, uid, running_job())
    finally:
        await engine.aclose()
