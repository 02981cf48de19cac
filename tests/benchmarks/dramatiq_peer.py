"""dramatiq with a no-op: its Redis broker, one worker process with eight threads."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from redis import Redis

from tests.benchmarks.measure import REDIS_URL


def set_up() -> dramatiq.Actor[[], None]:
    """Declare the actor, as a module of a user of dramatiq does at its top."""
    broker = RedisBroker(url=os.environ[REDIS_URL])  # type: ignore[no-untyped-call]
    dramatiq.set_broker(broker)

    def nothing() -> None:
        pass

    return dramatiq.actor(nothing)


class Dramatiq:
    """Messages sent one after the other: its face has no event loop."""

    name = "dramatiq"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._actor = set_up()

    def publish(self, count: int) -> None:
        """Send so many messages."""
        for _ in range(count):
            self._actor.send()

    def is_empty(self) -> bool:
        """Whether every message was acknowledged, and so deleted."""
        return self._redis.hlen("dramatiq:default.msgs") == 0
