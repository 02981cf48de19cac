"""One worker in this process, and what becomes of each record that it fetches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass

from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.errors import RecordFailed
from schemas.requests import Request
from tests.integration.clock import SCOPE
from workers.engine import Engine


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one record, and of the fetch that it was alone in."""

    result: str
    detail: str
    attempts: int
    body: bytes | None
    """As it can be read; None if there is no response."""
    failure_reason: str
    downloaded: int


class Trial:
    """Fetches records, each in a fetch of its own."""

    def __init__(self, manager: BackgroundFetchManager, engine: Engine) -> None:
        self._manager = manager
        self._engine = engine
        self._count = 0

    async def outcome(
        self,
        request: str | Request,
        *,
        download_total: int = 0,
        manager: BackgroundFetchManager | None = None,
    ) -> Outcome:
        """Fetch one record to its end; ``manager``: who registers it."""
        registration = await self.fetch(
            request, download_total=download_total, manager=manager
        )
        [record] = await registration.match_all()
        await record.refresh()
        body: bytes | None = None
        with suppress(RecordFailed):
            body = await (await record.response_ready).read()
        return Outcome(
            str(record.result),
            record.failure_reason,
            record.attempts,
            body,
            str(registration.failure_reason),
            registration.downloaded,
        )

    async def fetch(
        self,
        *requests: str | Request,
        download_total: int = 0,
        manager: BackgroundFetchManager | None = None,
    ) -> BackgroundFetchRegistration:
        """Fetch records to their end."""
        self._count += 1
        registration = await (manager or self._manager).fetch(
            f"trial {self._count}", requests, download_total=download_total
        )
        async with asyncio.timeout(60):
            await self._engine.perform(SCOPE, registration.uid, "job")
        await registration.refresh()
        return registration


Trials = Callable[..., AbstractAsyncContextManager[Trial]]
"""Opens a trial under settings of its own."""


def trials(settings: Settings) -> Trials:
    """Return what opens trials; each is over with its worker."""

    @asynccontextmanager
    async def opened(**changes: object) -> AsyncIterator[Trial]:
        changed = settings.model_copy(update=changes)
        engine = Engine(changed, reclaiming=False)
        await engine.start()
        try:
            async with connect(scope=SCOPE, settings=changed) as manager:
                yield Trial(manager, engine)
        finally:
            await engine.aclose()

    return opened
