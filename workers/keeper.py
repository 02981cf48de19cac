"""The thread that keeps a subscriber process's deliveries while their promises pend.

It has a Redis client of its own, so that a listener that blocks the event loop does
not lose its delivery (R24).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

import structlog
from redis import Redis
from redis.exceptions import RedisError

from broker.deliveries import Begun
from broker.scripts import script
from broker.settings import Settings
from broker.stream import Subscription

log = structlog.get_logger()

AT_ONCE = 500
"""Deliveries in one call: a script's work is bounded (R22)."""


class Keeper:
    """Extends every lease of a process, in few script calls, three times in a lease."""

    def __init__(
        self,
        redis_url: str,
        settings: Settings,
        subscription: Subscription,
        *,
        held: Callable[[], Iterable[Begun]],
        lost: Callable[[Begun], object],
    ) -> None:
        """``held`` and ``lost`` are called in the thread.

        ``lost`` hears of what was held when it was asked for, and is not any more:
        another process has it, or it was concluded here in the meantime.
        """
        self._subscription = subscription
        self._held = held
        self._lost = lost
        self._beat = settings.lease.total_seconds() / 3
        self._redis = Redis.from_url(redis_url, socket_timeout=self._beat)
        self._extend = self._redis.register_script(script("extend").source)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begin to extend."""
        self._thread.start()

    def stop(self) -> None:
        """Stop extending; returns once the thread has ended."""
        self._stop.set()
        self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        while not self._stop.wait(self._beat):
            held = tuple(self._held())
            # Without any, too: the process keeps its own place.
            for start in range(0, max(1, len(held)), AT_ONCE):
                if not self._extended(held[start : start + AT_ONCE]):
                    break

    def _extended(self, held: Sequence[Begun]) -> bool:
        """Extend some; False if Redis is away."""
        keys, arguments = self._subscription.extension(held)
        try:
            lost = self._extend(keys=keys, args=arguments)
        except (RedisError, OSError) as error:
            log.warning("leases_not_extended", error=str(error))
            self._redis.connection_pool.disconnect()  # a replica's, maybe
            return False
        named = {begun.delivery.member.encode(): begun for begun in held}
        for delivery in lost:
            self._lost(named[delivery])
        return True
