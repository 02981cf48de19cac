"""Queues of messages with a no-op behind each: ours, and a bare stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

from redis import Redis

from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from tests.benchmarks.listeners import BATCH, GROUP, SCOPE, STREAM

AT_ONCE = 32
"""Publications under way at a time, where the producer has an event loop."""
FETCHES = 100
"""Background fetches whose display is clicked in turn."""
_EVENT = b"x" * 500  # about as long as one of ours


class Queue(Protocol):
    """A producer of messages that another process handles."""

    name: str

    def publish(self, count: int) -> None:
        """Publish so many messages."""

    def is_empty(self) -> bool:
        """Whether every message was handled and acknowledged."""


async def register(
    manager: BackgroundFetchManager, count: int
) -> list[BackgroundFetchRegistration]:
    """Register fetches for clicks to be about, and end them: no work waits for one."""
    fetches = [
        await manager.fetch(f"fetch-{number}", "https://files.example/1")
        for number in range(count)
    ]
    for fetch in fetches:
        await fetch.abort()
    return fetches


def is_drained(redis: Redis, stream: str, group: str) -> bool:
    """Whether a group has read and acknowledged a whole stream."""
    groups: Any = redis.xinfo_groups(stream) if redis.exists(stream) else []
    found = [one for one in groups if one["name"] == group.encode()]
    return bool(found) and found[0]["lag"] == 0 and found[0]["pending"] == 0


async def click_all(fetches: list[BackgroundFetchRegistration], count: int) -> None:
    """Click on the display of each fetch in turn, some clicks at a time."""
    remaining = iter(range(count))

    async def click(remaining: Iterator[int]) -> None:
        for number in remaining:
            await fetches[number % len(fetches)].click()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(click(remaining))


class Ours:
    """Clicks on some background fetches, to the subscriber of their scope."""

    name = "ours"

    def __init__(
        self, redis: Redis, loop: asyncio.Runner, manager: BackgroundFetchManager
    ) -> None:
        self._redis, self._loop = redis, loop
        self._fetches = loop.run(register(manager, FETCHES))

    def publish(self, count: int) -> None:
        """Click so many times."""
        self._loop.run(click_all(self._fetches, count))

    def is_empty(self) -> bool:
        """Whether the subscriber owes no event."""
        return is_drained(self._redis, ScopeKeys(SCOPE).events, "default")


class Bare:
    """XADD in pipelines to XREADGROUP and XACK in batches: what the machine can do."""

    name = "bare XREADGROUP and XACK"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def publish(self, count: int) -> None:
        """Append so many entries."""
        for start in range(0, count, BATCH):
            with self._redis.pipeline(transaction=False) as pipe:
                for _ in range(start, min(start + BATCH, count)):
                    pipe.xadd(STREAM, {"message": _EVENT})
                pipe.execute()

    def is_empty(self) -> bool:
        """Whether everything was acknowledged."""
        return is_drained(self._redis, STREAM, GROUP)
