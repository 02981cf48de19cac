"""A scope with workers and an origin: what most rows need to be shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from broker.manager import BackgroundFetchManager
from broker.record import BackgroundFetchRecord
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from tests.integration.working import perform
from workers.demo.origin import Origin
from workers.engine import Engine

SECONDS = 30
"""How long anything may take on a busy machine."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Makes fetches of what the origin serves, and has them carried out."""

    manager: BackgroundFetchManager
    engine: Engine
    origin: Origin
    settings: Settings

    async def fetch(
        self, *paths: str, id: str = "x", **options: Any
    ) -> BackgroundFetchRegistration:
        """Register a fetch of paths of the origin."""
        urls = [self.origin.url(path) for path in paths]
        return await self.manager.fetch(id, urls, **options)

    async def perform(
        self, registration: BackgroundFetchRegistration
    ) -> BackgroundFetchRegistration:
        """Have a fetch carried out to its end."""
        return await perform(self.engine, registration)

    @asynccontextmanager
    async def performing(
        self, registration: BackgroundFetchRegistration
    ) -> AsyncIterator[None]:
        """Have a fetch carried out meanwhile; wait for its end after the block."""
        working = asyncio.create_task(self.perform(registration))
        try:
            async with asyncio.timeout(SECONDS):
                yield
        except BaseException:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            raise
        await working

    async def record(
        self, registration: BackgroundFetchRegistration, path: str
    ) -> BackgroundFetchRecord:
        """Return the record of a path."""
        record = await registration.match(self.origin.url(path), ignore_method=True)
        assert record is not None
        return record

    async def read(self, registration: BackgroundFetchRegistration, path: str) -> bytes:
        """Return the body that came from a path."""
        record = await self.record(registration, path)
        return await (await record.response_ready).read()


async def until_downloaded(
    registration: BackgroundFetchRegistration, bytes_: int = 1
) -> None:
    """Return once so many bytes are there."""
    async with asyncio.timeout(SECONDS):
        async for progress in registration.progress():
            if progress.downloaded >= bytes_:
                return
