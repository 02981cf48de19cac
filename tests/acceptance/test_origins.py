"""Worker processes together keep to the limit of an origin."""

from __future__ import annotations

import asyncio

from broker.manager import BackgroundFetchManager
from broker.origins import look_at
from tests.acceptance.fleet import Fleet
from tests.integration.crowd import Crowd

LIMIT = 3


async def test_three_workers_ask_an_origin_no_more_than_is_allowed_to_one(
    manager: BackgroundFetchManager, fleet: Fleet
) -> None:
    """Asks row 5; R25. Each of them has a fetch, and gets on with it."""
    for _ in range(3):
        options = {"BGFETCH_ORIGIN_CONNECTIONS": str(LIMIT), "BGFETCH_LEASE": "60"}
        fleet.start("worker", "--concurrency", "1", **options)
    async with Crowd() as origin, asyncio.timeout(100):
        origin.shut()
        fetches = [await manager.fetch(id, origin.urls(id, 40)) for id in "abc"]
        await origin.reached(LIMIT)
        while (await look_at(manager.connection, [origin.name]))[0].processes < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # they ask, though they get nothing yet
        origin.open()
        for registration in fetches:
            async for _ in registration.progress():
                pass

    assert [registration.result for registration in fetches] == ["success"] * 3
    assert origin.most == LIMIT
