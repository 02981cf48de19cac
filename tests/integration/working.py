"""Lanes in tests, carried out where the test can see it."""

from __future__ import annotations

import asyncio

from broker.registration import BackgroundFetchRegistration
from workers.engine import Engine


async def perform(
    engine: Engine, registration: BackgroundFetchRegistration
) -> BackgroundFetchRegistration:
    """Carry one lane of a fetch to its end."""
    async with asyncio.timeout(60):
        await engine.perform(registration.scope, registration.uid, "job")
    await registration.refresh()
    return registration
