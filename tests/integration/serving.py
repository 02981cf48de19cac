"""A gateway of a test's own, on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from httpx2 import AsyncClient

from broker.gateway import Server, create_app
from broker.settings import Settings


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[AsyncClient]:
    """Run a gateway in this process; lend a client of it."""
    server = Server(create_app(settings), "127.0.0.1", 0)
    running = asyncio.create_task(server.serve())
    try:
        async with AsyncClient(base_url=server.address, timeout=60) as client:
            yield client
    finally:
        server.stop()
        await running
