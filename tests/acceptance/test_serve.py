"""``bgfetch serve``: the gateway as a process."""

from __future__ import annotations

import signal

from httpx2 import AsyncClient

from tests.acceptance.fleet import SCOPE, Fleet
from tests.integration.streaming import reading


async def test_a_gateway_answers_and_ends_in_order_on_term(fleet: Fleet) -> None:
    process, address = await fleet.serve()

    async with AsyncClient(base_url=address) as client:
        answer = await client.get("/api/v1/openapi.json")
        process.send_signal(signal.SIGTERM)

    assert answer.json()["info"]["title"] == "Background Fetch for servers"
    assert process.wait(timeout=30) == 0


async def test_a_gateway_ends_within_seconds_while_readers_are_connected(
    fleet: Fleet,
) -> None:
    """Each is told to come again, and its stream ends in order."""
    process, address = await fleet.serve()

    async with (
        AsyncClient(base_url=address) as client,
        reading(client, "/events") as everything,
        reading(client, f"/scopes/{SCOPE}/events") as of_scope,
    ):
        await everything.next("client")
        await of_scope.next("client")
        process.send_signal(signal.SIGTERM)
        farewells = [await one.next("bye") for one in (everything, of_scope)]
        ended = [await one.ended() for one in (everything, of_scope)]

    assert process.wait(timeout=30) == 0
    assert ended == [True, True]
    assert {told.data["reason"] for told in farewells} == {"stopping"}
    assert all(told.retry for told in farewells)
