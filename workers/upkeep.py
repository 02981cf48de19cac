"""What a gateway's process does beside answering: it reclaims, and tells it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread

from broker.agenda import Agenda
from broker.connection import Connection
from broker.processes import Process, Role, process_name
from broker.queue import JobQueue
from broker.settings import Settings
from broker.stores import introduce, open_store
from broker.tasks import cancel_all
from workers.beat import beat_for_ever
from workers.caretaker import Caretaker
from workers.reclaim import Reclaimer


@asynccontextmanager
async def upkeep(settings: Settings) -> AsyncIterator[None]:
    """Look after what dead processes held, while the body runs (R15).

    Raises:
        Unreachable: Redis does not answer.
        StorageError: the blob store cannot be opened.
    """
    connection = Connection(settings.found_redis())
    queue = JobQueue(connection.url)
    tasks: list[asyncio.Task[None]] = []
    try:
        await connection.ping()
        store = await to_thread.run_sync(open_store, settings)
        await introduce(connection, store)
        reclaimer = Reclaimer(Agenda(connection, settings), queue, store, settings)
        process = Process(Role.GATEWAY, process_name())
        tasks += [
            asyncio.create_task(reclaimer.run()),
            asyncio.create_task(Caretaker(connection, settings).run()),
            asyncio.create_task(beat_for_ever(connection, process, settings.lease)),
        ]
        try:
            yield
        finally:
            await cancel_all(tasks)
            store.close()
    finally:
        await queue.aclose()
        await connection.aclose()
