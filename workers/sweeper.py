"""Sweeps the blob store once in a while, beside the reclaimer (R16)."""

from __future__ import annotations

import asyncio

import structlog

from broker.sweep import APART, Sweep
from schemas.errors import Failure

log = structlog.get_logger()


async def sweep_for_ever(sweep: Sweep) -> None:
    """Sweep when nobody else has done it for an hour, until cancelled."""
    while True:
        try:
            if await sweep.due():
                swept = await sweep.run()
                if swept.deleted:
                    log.info("orphans_deleted", count=len(swept.deleted))
        except Failure as error:
            log.warning("sweep_left_out", error=str(error))
        await asyncio.sleep(APART.total_seconds() / 6)
