"""Keeps this process's slots in step with the grants of the fleet.

One call tells of many origins: of all in use a few times in a lease, of some as soon as
there is news. Without Redis a grant holds until it ends; then an origin gets one
exchange at a time (R25).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import structlog
from redis.exceptions import RedisError

from broker.origins import BATCH, Origins
from schemas.errors import Failure
from workers.exchange import TransportLimits
from workers.origin_slots import OriginSlots
from workers.slots import Slots

log = structlog.get_logger()

LONGEST_RETRY = 2.0
"""Seconds between two tries to reach a Redis that is away."""
LEAVING_SECONDS = 2.0
"""How long a process that ends tries to give back its grants; they end anyway."""


class Grants:
    """The slots of one process with every origin, as the fleet grants them."""

    def __init__(
        self, origins: Origins, lease: timedelta, limits: TransportLimits
    ) -> None:
        self._lease = lease.total_seconds()
        self.slots = Slots(
            limits.connections, 0, patience=self._lease, stirred=self._stirred
        )
        self._origins = origins
        self._news: dict[str, OriginSlots] = {}
        self._wake = asyncio.Event()

    def hear(self, message: str) -> None:
        """Another process changed an origin: ``<nonce> <origin>``."""
        nonce, _, origin = message.partition(" ")
        own = self.slots.origins.get(origin)
        if own is not None and nonce != self._origins.nonce:
            self._stirred(own)

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        loop = asyncio.get_running_loop()
        tick_at, retry = loop.time() + self._lease / 4, 0.0
        while True:
            wait = retry or max(0.0, tick_at - loop.time())
            await self._sleep(wait, wakeable=not retry)
            tick = loop.time() >= tick_at
            if tick:
                tick_at = loop.time() + self._lease / 4
            try:
                await self._renew(tick)
                retry = 0.0
            except (Failure, RedisError) as error:
                if not retry:
                    log.warning("origins_without_redis", error=str(error))
                retry = min(2 * retry or 0.1, LONGEST_RETRY)

    async def leave(self) -> None:
        """Give every grant back; no exchange runs any more."""
        with suppress(Failure, RedisError, TimeoutError):
            async with asyncio.timeout(LEAVING_SECONDS):
                await self._tell(list(self.slots.origins.values()), tick=False)

    def _stirred(self, own: OriginSlots) -> None:
        self._news[own.origin] = own
        self._wake.set()

    async def _sleep(self, seconds: float, *, wakeable: bool) -> None:
        if not wakeable:
            await asyncio.sleep(seconds)
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        await self._wake.wait()
        timer.cancel()

    async def _renew(self, tick: bool) -> None:
        """Tell of what there is news, at a tick of everything.

        Raises:
            Unreachable: Redis does not answer; what was not told is news again.
            RedisError: it cannot do what it is asked, likewise.
        """
        self._wake.clear()
        news, self._news = self._news, {}
        await self._tell([*(self.slots.origins if tick else news).values()], tick=tick)

    async def _tell(self, origins: Sequence[OriginSlots], *, tick: bool) -> None:
        loop = asyncio.get_running_loop()
        for start in range(0, len(origins), BATCH):
            some = origins[start : start + BATCH]
            now = loop.time()
            idle = [own.idle for own in some]
            reports = [own.report(now, tick=tick) for own in some]
            try:
                grants = await self._origins.renew(reports)
            except (Failure, RedisError):
                for own, report in zip(some, reports, strict=True):
                    own.unheard(report)
                self._go_on_alone(origins[start:])
                raise
            ends = now + self._lease
            for own, report, grant in zip(some, reports, grants, strict=True):
                if own.heard(report, grant, loop.time(), ends):
                    self._stirred(own)
                self.slots.serve(own)
            for own, was_idle in zip(some, idle, strict=True):
                now = loop.time()
                if was_idle and own.idle and not (own.pause(now) or own.rest(now)):
                    self.slots.forget(own)

    def _go_on_alone(self, origins: Sequence[OriginSlots]) -> None:
        for own in origins:
            own.go_on_alone(asyncio.get_running_loop().time())
            self._news[own.origin] = own
            self.slots.serve(own)
