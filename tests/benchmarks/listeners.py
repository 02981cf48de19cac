"""The service workers of ``bench events``, as ``bgfetch subscribe`` is told them.

``python -m tests.benchmarks.listeners drain|timed`` is what they are compared
with: a bare loop on a stream, without anything that makes a delivery safe.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from redis import Redis

from tests.benchmarks.measure import REDIS_URL
from workers import BackgroundFetchEvent, ServiceWorker

SCOPE = "bench"
STREAM, GROUP = "bare", "bare"
STARTED = "bench:started"
"""LIST of when handlers started: nanoseconds by the clock that processes share."""
BATCH = 100


def nothing() -> ServiceWorker:
    """Handle every event by doing nothing."""
    worker = ServiceWorker(SCOPE)

    async def listener(event: BackgroundFetchEvent) -> None:
        pass

    worker.onbackgroundfetchclick = worker.onbackgroundfetchsuccess = listener
    return worker


def timed() -> ServiceWorker:
    """Tell when the handler of a success started."""
    worker = ServiceWorker(SCOPE)
    redis = Redis.from_url(os.environ[REDIS_URL])

    async def listener(event: BackgroundFetchEvent) -> None:
        started = time.monotonic_ns()
        redis.rpush(STARTED, started)

    worker.onbackgroundfetchsuccess = listener
    return worker


def waiting() -> ServiceWorker:
    """Handle clicks for as long as the process lives."""
    worker = ServiceWorker(SCOPE)

    async def listener(event: BackgroundFetchEvent) -> None:
        await asyncio.get_running_loop().create_future()

    worker.onbackgroundfetchclick = listener
    return worker


def _drain(redis: Redis) -> None:
    """Read and acknowledge in batches, and do no more."""
    while True:
        reply: Any = redis.xreadgroup(GROUP, "one", {STREAM: ">"}, BATCH, 1000)
        for _, entries in reply or []:
            redis.xack(STREAM, GROUP, *(entry for entry, _ in entries))


def _time(redis: Redis) -> None:
    """Tell when each entry arrived, one after the other."""
    while True:
        reply: Any = redis.xreadgroup(GROUP, "one", {STREAM: ">"}, 1, 1000)
        started = time.monotonic_ns()
        for _, entries in reply or []:
            redis.rpush(STARTED, started)
            redis.xack(STREAM, GROUP, *(entry for entry, _ in entries))


if __name__ == "__main__":
    client = Redis.from_url(os.environ[REDIS_URL], socket_timeout=None)
    client.xgroup_create(STREAM, GROUP, "$", mkstream=True)
    {"drain": _drain, "timed": _time}[sys.argv[1]](client)
