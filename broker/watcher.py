"""One pub/sub connection that keeps a manager's registrations current.

Messages are hints: after a drop, and for whoever waits, the hash is read again (R25).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from broker.connection import Connection
from broker.tasks import cancel_all
from schemas import codec
from schemas.errors import Failure, InvalidMessage

log = structlog.get_logger()

SHORTEST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds between attempts to subscribe again."""


class Watcher:
    """Calls back with every registration state that is published in a scope."""

    def __init__(
        self,
        connection: Connection,
        channel: str,
        update: Callable[[dict[str, object]], None],
        resynchronise: Callable[[], Awaitable[None]],
    ) -> None:
        """``resynchronise`` is awaited whenever messages may have been missed.

        ``update`` raises InvalidMessage where a state is none.
        """
        self._redis = connection.blocking_client()
        self._channel = channel
        self._update = update
        self._resynchronise = resynchronise
        self._subscribed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Return once messages are being received; the first call starts that."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="watcher")
        with suppress(TimeoutError):  # without pub/sub, waiters still read the hash
            async with asyncio.timeout(2):
                await self._subscribed.wait()

    async def aclose(self) -> None:
        """Stop receiving."""
        if self._task is not None:
            await cancel_all([self._task])
        await self._redis.aclose()

    async def _run(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    await self._receive(pubsub)
            except (RedisError, OSError, Failure) as error:
                if self._subscribed.is_set():
                    pause = SHORTEST_PAUSE
                self._subscribed.clear()
                log.debug("watcher_reconnects", error=str(error), after=pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _receive(self, pubsub: PubSub) -> None:
        async for message in pubsub.listen():
            if message["type"] == "subscribe":
                await self._resynchronise()
                self._subscribed.set()
            elif message["type"] == "message":
                try:
                    self._update(codec.decode(message["data"]))
                except InvalidMessage as error:
                    log.warning("progress_message_ignored", error=str(error))
