"""``bgfetch serve``: the gateway as a process."""

from __future__ import annotations

import signal

from httpx2 import AsyncClient

from tests.acceptance.fleet import Fleet


async def test_a_gateway_answers_and_ends_in_order_on_term(fleet: Fleet) -> None:
    process, address = await fleet.serve()

    async with AsyncClient(base_url=address) as client:
        answer = await client.get("/api/v1/openapi.json")
        process.send_signal(signal.SIGTERM)

    assert answer.json()["info"]["title"] == "Background Fetch for servers"
    assert process.wait(timeout=30) == 0
