"""What the lanes of one process share: Redis, blob store, connections to origins."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from anyio import to_thread
from redis.exceptions import RedisError

from broker.agenda import Agenda
from broker.connection import Connection
from broker.keys import ABORTS, ORIGIN_NEWS, FetchKeys
from broker.lanes import Refusal
from broker.origins import Origins
from broker.places import described
from broker.processes import Process, Role, process_name
from broker.queue import JobQueue
from broker.settings import Settings
from broker.store import BlobStore
from broker.stores import introduce, open_store
from broker.sweep import Sweep
from broker.tasks import cancel_all
from schemas.errors import Failure
from workers.beat import beat_for_ever
from workers.grants import Grants
from workers.lane import Lane
from workers.reach import redis_endpoints
from workers.reclaim import Reclaimer
from workers.resources import Exchanges
from workers.sweeper import sweep_for_ever
from workers.transport import Transport, TransportLimits


class Engine:
    """Carries lanes on one event loop, for RQ's worker class or a single job.

    ``reclaiming`` makes this process one of those that look after the agenda.
    """

    def __init__(self, settings: Settings, *, reclaiming: bool = True) -> None:
        self._settings = settings
        self._reclaiming = reclaiming
        self._lanes: set[Lane] = set()
        self._background: list[asyncio.Task[None]] = []
        self._draining = False

    async def start(self) -> None:
        """Open what the lanes share.

        Raises:
            Unreachable: Redis does not answer.
            StorageError: the blob store cannot be opened.
        """
        settings = self._settings
        self._connection = Connection(settings.found_redis())
        self._queue = JobQueue(self._connection.url)
        await self._connection.ping()
        store = await to_thread.run_sync(open_store, settings)
        await introduce(self._connection, store)
        await self._open_exchanges(store)
        self.reclaimer = Reclaimer(
            Agenda(self._connection, settings), self._queue, store, settings
        )
        works = [self._grants.run(), self._hear_others()]
        if self._reclaiming:
            process = Process(Role.WORKER, process_name())
            works += [
                self.reclaimer.run(),
                sweep_for_ever(Sweep(self._connection, store)),
                beat_for_ever(self._connection, process, settings.lease),
            ]
        self._background += [asyncio.create_task(work) for work in works]

    async def _open_exchanges(self, store: BlobStore) -> None:
        settings = self._settings
        limits = TransportLimits(
            connect_timeout=settings.connect_timeout.total_seconds(),
            first_byte_timeout=settings.first_byte_timeout.total_seconds(),
            low_speed_time=settings.stall_timeout.total_seconds(),
            transfer_rate=settings.max_transfer_rate,
            rate=settings.max_rate,
            # A slow store pauses transfers, which then keep what they have read.
            buffer=(64 if store.remote else 1024) * 1024,
        )
        closed = await to_thread.run_sync(redis_endpoints, self._connection.url)
        self._grants = Grants(
            Origins(self._connection, settings), settings.lease, limits
        )
        self._transport = Transport(
            limits,
            settings.allow_networks,
            closed=closed,
            proxy=settings.proxy,
            proxy_resolves=settings.proxy_resolves,
            slots=self._grants.slots,
        )
        self._exchanges = Exchanges(
            self._transport, store, settings, self._grants.slots
        )

    async def perform(self, scope: str, uid: str, job_id: str) -> None:
        """Carry one lane of a fetch, if it has room for one (R1)."""
        keys = FetchKeys(scope, uid)
        if self._draining:
            # RQ handed over what was being taken when the stop came: want it anew.
            with suppress(Failure):
                await self.reclaimer.look(keys)
            return
        lane = Lane(self._connection, self._settings, self._exchanges, keys)
        self._lanes.add(lane)
        try:
            refusal = await lane.run(job_id)
        finally:
            self._lanes.discard(lane)
        with suppress(Failure):  # the agenda finds missing what is lost here (R1)
            jobs = await described(self._connection, scope, lane.admitted)
            await self._queue.enqueue(jobs)
        if refusal not in (Refusal.ENDED, Refusal.SETTLED, Refusal.GONE):
            # What this lane left finds another one at once, here or elsewhere.
            with suppress(Failure):
                await self.reclaimer.look(keys)

    async def drain(self) -> None:
        """Make every lane keep what it has, give its records back and return soon."""
        self._draining = True
        for lane in self._lanes:
            lane.stop()

    async def aclose(self) -> None:
        """Close what ``start`` opened; no lane runs any more."""
        await cancel_all(self._background)
        if hasattr(self, "_transport"):
            await self._transport.aclose()
        if hasattr(self, "_exchanges"):
            self._exchanges.store.close()
            await self._grants.leave()
        if hasattr(self, "_queue"):
            await self._queue.aclose()
            await self._connection.aclose()

    async def _hear_others(self) -> None:
        """Hear of fetches that end under their lanes, and of origins that change.

        A message that is missed, the next heartbeat makes good.
        """
        redis = self._connection.blocking_client()
        hear = {ABORTS: self._hurry, ORIGIN_NEWS: self._grants.hear}
        try:
            while True:
                with suppress(RedisError, OSError):
                    async with redis.pubsub() as pubsub:
                        await pubsub.subscribe(*hear)
                        async for message in pubsub.listen():
                            if message["type"] == "message":
                                channel = message["channel"].decode()
                                hear[channel](message["data"].decode())
                await asyncio.sleep(1)
        finally:
            await redis.aclose()

    def _hurry(self, uid: str) -> None:
        for lane in self._lanes:
            if lane.uid == uid:
                lane.hurry()
