"""taskiq with a no-op: RedisStreamBroker, one worker process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from redis import Redis
from taskiq_redis import RedisStreamBroker

from tests.benchmarks.measure import REDIS_URL
from tests.benchmarks.queues import AT_ONCE, is_drained


async def nothing() -> None:
    """Do nothing, as a task."""


def set_up() -> RedisStreamBroker:
    """Make the broker, as a module of a user of taskiq does at its top."""
    broker = RedisStreamBroker(os.environ[REDIS_URL])
    broker.task("nothing")(nothing)
    return broker


class Taskiq:
    """Messages sent with as many under way as we have."""

    name = "taskiq"

    def __init__(self, redis: Redis, loop: asyncio.Runner) -> None:
        self._redis, self._loop = redis, loop
        self._broker = set_up()
        self._task = self._broker.task("nothing")(nothing)
        loop.run(self._broker.startup())

    def close(self) -> None:
        """Leave Redis."""
        self._loop.run(self._broker.shutdown())

    def publish(self, count: int) -> None:
        """Send so many messages."""
        self._loop.run(self._send_all(count))

    async def _send_all(self, count: int) -> None:
        remaining = iter(range(count))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._send(remaining))

    async def _send(self, remaining: Iterator[int]) -> None:
        for _ in remaining:
            await self._task.kiq()

    def is_empty(self) -> bool:
        """Whether every message was acknowledged."""
        return is_drained(self._redis, "taskiq", "taskiq")
