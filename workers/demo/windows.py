"""A person's screen, as far as the demo needs one: it hears which windows to open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio.client import PubSub

from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from schemas.events import WindowMessage


@asynccontextmanager
async def windows(
    manager: BackgroundFetchManager,
) -> AsyncIterator[dict[tuple[str, str], str]]:
    """Yield a growing map of (uid, click) to the link that a listener asked for."""
    opened: dict[tuple[str, str], str] = {}
    redis = manager.connection.blocking_client()
    try:
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(ScopeKeys(manager.scope).clients)
            await pubsub.get_message(timeout=5)  # that it is subscribed
            hearing = asyncio.create_task(_hear(pubsub, opened))
            try:
                yield opened
            finally:
                hearing.cancel()
                with suppress(asyncio.CancelledError):
                    await hearing
    finally:
        await redis.aclose()


async def _hear(pubsub: PubSub, opened: dict[tuple[str, str], str]) -> None:
    async for message in pubsub.listen():
        if message["type"] == "message":
            window = WindowMessage.decode(message["data"])
            opened[window.uid, window.event] = window.url
