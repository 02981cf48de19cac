"""The reclaimer: looks after fetches whose time has come (R15, R25).

Runs inside every worker and subscriber process; any number of them may run at once.
"""

from __future__ import annotations

import asyncio

import structlog
from anyio import to_thread

from broker.agenda import Agenda, Verdict
from broker.keys import FetchKeys
from broker.queue import JobQueue
from broker.settings import Settings
from broker.store import BlobStore
from schemas.errors import Failure, QuotaExceeded
from workers.timekeeping import keeping_time

log = structlog.get_logger()


class Reclaimer:
    """Replaces dead lanes, releases records, deletes bytes, forgets old fetches."""

    def __init__(
        self,
        agenda: Agenda,
        queue: JobQueue,
        store: BlobStore | None,
        settings: Settings,
    ) -> None:
        """Without a ``store`` the bytes are left for a process that has it."""
        self._agenda = agenda
        self._removed = agenda.of_removed()
        self._queue = queue
        self._store = store
        self._settings = settings

    async def run(self) -> None:
        """Make a pass four times in a lease, until cancelled."""
        async with keeping_time(self._agenda, self._settings):
            while True:
                try:
                    await self.make_pass()
                except (Failure, QuotaExceeded) as error:
                    log.warning("reclaimer_waits", error=str(error))
                await asyncio.sleep(self._settings.lease.total_seconds() / 4)

    async def make_pass(self) -> None:
        """Look once at everything that is due.

        Raises:
            Unreachable: Redis does not answer.
        """
        await self._agenda.grace(self._settings.lease)
        for keys in await self._agenda.due():
            await self.look(keys)
        await self._agenda.settle_departures()
        await self._queue.drop(await self._agenda.remove_scopes())
        await self._clear_away()
        for absence in await self._agenda.expire_subscribers():
            log.warning(
                "subscriber_expired",
                scope=absence.scope,
                subscriber=absence.subscriber,
                seen=absence.seen.isoformat(timespec="seconds"),
            )

    async def _clear_away(self) -> None:
        """Delete what removed scopes left, as far as there is time in this pass."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.lease.total_seconds() / 8
        while (due := await self._removed.due()) and loop.time() < until:
            for keys in due:
                await self._look(self._removed, keys)

    async def look(self, keys: FetchKeys) -> None:
        """Look at one fetch now, and do what that asks for.

        Raises:
            Unreachable: Redis does not answer.
        """
        await self._look(self._agenda, keys)

    async def _look(self, agenda: Agenda, keys: FetchKeys) -> None:
        look = await agenda.look(keys)
        while look.verdict is Verdict.EXPIRE:
            count = await agenda.expire(look.overdue)
            log.warning("deliveries_expired", uid=keys.uid, count=count)
            if not count:
                return  # others were faster; the agenda asks again
            look = await agenda.look(keys)
        if look.dead_jobs:
            log.info("lane_replaced", uid=keys.uid, jobs=look.dead_jobs)
            await self._queue.abandon(look.dead_jobs, "its worker died")
        if look.jobs:
            await self._queue.enqueue(look.jobs)
        if look.verdict in (Verdict.PURGE, Verdict.FORGET):
            await self._purge(agenda, keys, forget=look.verdict is Verdict.FORGET)

    async def _purge(self, agenda: Agenda, keys: FetchKeys, *, forget: bool) -> None:
        """Delete the bytes of a released fetch that are in this store (R16).

        Others are for a process that has their store, or with ``forget`` for a sweep.
        """
        parts = await agenda.parts(keys)
        here = parts.pop(self._store.id, None) if self._store else None
        if self._store is not None and here:
            await to_thread.run_sync(self._store.delete, here)
        if forget or not parts:
            await agenda.purged(keys)
