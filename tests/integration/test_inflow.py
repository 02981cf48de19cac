"""What a busy process takes next: what is due takes turns with what is new."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from typing_extensions import override

from broker.deliveries import Begun
from broker.manager import BackgroundFetchManager
from broker.tasks import cancel_all
from schemas.events import EventMessage
from tests.integration.delivering import Process, begin, read
from workers.inflow import Handler, Inflow

URL = "https://cdn.example/1"


async def test_what_is_due_is_taken_though_there_is_always_more_that_is_new(
    manager: BackgroundFetchManager, process: Process
) -> None:
    """Guarantee 4, R20: a process that is never idle comes to what failed, too."""
    sub = await process()
    await (await manager.fetch("failed", URL)).abort()
    begun = await begin(sub, (await read(sub))[0])
    await sub.nack(begun, failed=True, delay=timedelta(0), reason="no")
    for id in ("new 1", "new 2", "new 3"):
        await (await manager.fetch(id, URL)).abort()
    handled = asyncio.Queue[str]()
    proceed = asyncio.Semaphore(0)

    class Slow(Handler):
        """Lets the test say when a handler ends."""

        @override
        async def handle(
            self, entry: str, message: bytes, nonce: str | None = None
        ) -> None:
            handled.put_nowait(EventMessage.decode(message).registration.id)
            await proceed.acquire()

        @override
        async def handle_begun(self, begun: Begun) -> None:
            handled.put_nowait(begun.state.id)
            await proceed.acquire()

    inflow = Inflow(sub, Slow(), 1)
    running = asyncio.create_task(inflow.run())
    async with asyncio.timeout(20):
        seen = [await handled.get()]
        room = inflow.room_for_due()  # housekeeping finds none
        for _ in range(3):
            proceed.release()
            seen.append(await handled.get())
    await cancel_all([running])
    proceed.release()
    await inflow.drain(timedelta(seconds=20))

    assert room == 0
    assert seen == ["new 1", "failed", "new 2", "new 3"]
