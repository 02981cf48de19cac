"""``response_ready``: many wait for it, in several processes, and some give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.manager import BackgroundFetchManager, connect
from broker.record import BackgroundFetchRecord
from broker.response import Response
from broker.settings import Settings
from schemas.errors import Aborted
from tests.integration.clock import SCOPE
from workers.demo.origin import Origin
from workers.engine import Engine

BODY = bytes(range(256)) * 2048
PATIENCE = 60


@pytest.fixture
async def elsewhere(settings: Settings) -> AsyncIterator[BackgroundFetchManager]:
    """The same scope in another process, so to speak."""
    async with connect(scope=SCOPE, settings=settings) as opened:
        yield opened


async def records(
    managers: list[BackgroundFetchManager],
) -> list[BackgroundFetchRecord]:
    """Two objects of the one record at each manager."""
    found = []
    for manager in managers:
        registration = await manager.get("x")
        assert registration is not None
        found += [(await registration.match_all())[0] for _ in range(2)]
    return found


async def ready(record: BackgroundFetchRecord) -> Response:
    return await record.response_ready


async def test_who_gives_up_waiting_disturbs_nobody_else(
    manager: BackgroundFetchManager,
    elsewhere: BackgroundFetchManager,
    engine: Engine,
    origin: Origin,
) -> None:
    """BF-IDL-11, BF-OBJ-02, BF-OBJ-04, BF-MATCH-10: before the head, or after it."""
    hold = asyncio.Event()
    origin.add("/a", BODY, hold=hold, hold_after=100_000)
    registration = await manager.fetch("x", origin.url("/a"))
    each = await records([manager, elsewhere])
    waiting = [asyncio.create_task(ready(record)) for record in each * 3]
    promise = each[0].response_ready
    await asyncio.sleep(0)
    for task in waiting[::3]:
        task.cancel()

    lane = asyncio.create_task(engine.perform(SCOPE, registration.uid, "job"))
    async with asyncio.timeout(PATIENCE):
        heads = await asyncio.gather(*waiting, return_exceptions=True)
        responses = [head for head in heads if isinstance(head, Response)]
        reading = [asyncio.create_task(each.read()) for each in responses]
        early = [await anext(aiter(each.body)) for each in responses]
        for body in reading[::2]:
            body.cancel()
        again = [await promise, await promise]
        hold.set()
        bodies = await asyncio.gather(*reading, return_exceptions=True)
        await lane

    assert [isinstance(head, asyncio.CancelledError) for head in heads] == [
        at % 3 == 0 for at in range(len(waiting))
    ]
    assert {response.status for response in [*responses, *again]} == {200}
    assert all(BODY.startswith(start) for start in early)
    assert bodies[1::2] == [BODY] * len(bodies[1::2])
    assert [await response.read() for response in again] == [BODY, BODY]


async def test_all_who_wait_hear_of_an_abort(
    manager: BackgroundFetchManager, elsewhere: BackgroundFetchManager, origin: Origin
) -> None:
    """BF-OBJ-09, BF-ABORT-07: no head ever came; awaiting it again says the same."""
    registration = await manager.fetch("x", origin.url("/a"))
    each = await records([manager, elsewhere])
    waiting = [asyncio.create_task(ready(record)) for record in each * 2]
    await asyncio.sleep(0)

    await registration.abort()
    async with asyncio.timeout(PATIENCE):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} == {Aborted}
    for record in each:
        with pytest.raises(Aborted):
            await record.response_ready
