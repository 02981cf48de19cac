"""What the records of a process share while they are completed."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import timedelta

from anyio import CapacityLimiter

from broker.settings import Settings
from broker.store import BlobStore
from schemas.requests import Request
from workers.exchange import Body, Fault
from workers.origin_slots import OriginBusy
from workers.retry import RetryPolicy
from workers.secrets import Secrets
from workers.slots import Slots
from workers.transport import Transport
from workers.uploads import opened
from workers.work import Work

UPLOADING = 256
"""Threads of a process that may wait for a store in a network, all of them idle."""


class Exchanges:
    """What every record of this process is completed with."""

    def __init__(
        self,
        transport: Transport,
        store: BlobStore,
        settings: Settings,
        slots: Slots,
    ) -> None:
        """``slots`` are those of ``transport``."""
        self.transport = transport
        self.slots = slots
        self.store = store
        self.threads = CapacityLimiter(UPLOADING) if store.remote else None
        self.secrets = Secrets(settings.secrets_dir)
        self.addresses = settings.allow_networks
        self.record_deadline = settings.record_deadline
        self.decoding = settings.decoding
        # An object store takes the bytes of a part in their order.
        self.streams = 1 if store.remote else settings.segments
        self.segment_size = settings.segment_size
        self.random = random.Random()
        self.policy = RetryPolicy(
            max_attempts=settings.max_attempts,
            base=settings.backoff,
            cap=settings.max_backoff,
            retry_after_cap=settings.max_retry_after,
        )
        self._deadline = settings.deadline

    def opened(self, request: Request) -> AbstractAsyncContextManager[Body | None]:
        """Have the body of a request open, to be sent; None without one."""
        if request.body is None:
            return nullcontext()
        return opened(request, self.store, self.threads)

    def deadline_of(self, work: Work) -> timedelta:
        """The age of the fetch at which this record gives up."""
        limit = self.record_deadline
        if limit is None or work.began is None:
            return self._deadline
        return min(self._deadline, timedelta(milliseconds=work.began) + limit)

    def postpone(self, work: Work, busy: OriginBusy, elapsed: timedelta) -> None:
        """Give a record back until its origin may be asked, unless that is too late.

        ``elapsed`` is the age of the fetch.
        """
        if elapsed + busy.delay < self.deadline_of(work):
            work.give_back(busy.delay, busy.detail)
        else:
            work.fail(f"{Fault.OFFLINE}: {busy.detail}, beyond the deadline")
