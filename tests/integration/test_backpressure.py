"""More events than a process can handle, and larger ones than it reads."""

from __future__ import annotations

import asyncio

from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import Settings
from schemas import codec
from tests.integration.clock import SCOPE
from tests.integration.outcomes import running
from workers.events import BackgroundFetchEvent
from workers.service_worker import ServiceWorker

URL = "https://cdn.example/1"
PATIENCE = 60.0
WAITING = 100_000
PUBLISH_MANY = """
for number = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], '*', 'delivery', number .. '/x', 'message', 'noise',
    'number', 6 + number)
end
"""


async def test_a_process_takes_no_more_events_than_it_may_handle_at_once(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Faults row 82: what waits, a hundred thousand here, waits in the stream."""
    settings = settings.model_copy(update={"handlers": 4})
    began, proceed = asyncio.Semaphore(0), asyncio.Event()

    async def handle(event: BackgroundFetchEvent) -> None:
        began.release()
        await proceed.wait()

    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchclick = handle
    fetches = [await manager.fetch(str(number), URL) for number in range(6)]
    async with running(sw, settings), asyncio.timeout(PATIENCE):
        while not await manager.subscribers.look():  # noqa: ASYNC110 - Redis tells
            await asyncio.sleep(0.02)
        for each in fetches:  # events of one fetch would wait for each other
            await each.click()
        await manager.connection.ask(
            "EVAL", PUBLISH_MANY, 1, ScopeKeys(SCOPE).events, WAITING
        )
        for _ in range(4):
            await began.acquire()
        [look] = await manager.subscribers.look()
        proceed.set()
        for _ in range(2):
            await began.acquire()

    assert (look.pending, look.lag) == (4, 2 + WAITING)


async def test_an_event_that_is_too_large_is_put_aside(
    manager: BackgroundFetchManager, settings: Settings
) -> None:
    """Faults row 82, R21: ours never are; nobody waits behind one that is."""
    sw = ServiceWorker(SCOPE)
    sw.onbackgroundfetchabort = lambda event: None
    async with running(sw, settings) as outcomes:
        await manager.connection.redis.xadd(
            ScopeKeys(SCOPE).events,
            {"delivery": "x/y", "message": b"\xc0" * (codec.MAX_BYTES + 1)},
        )
        await (await manager.fetch("x", URL)).abort()
        await outcomes.until("acked")

    dead = ScopeKeys(SCOPE).subscriber("default").dead
    [letter] = await manager.connection.ask("HVALS", dead)
    assert b"at most" in letter
    assert len(letter) < 1000
