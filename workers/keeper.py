"""The thread that keeps a subscriber process's deliveries while their promises pend.

It has a Redis client of its own, so that a listener that blocks the event loop does
not lose its delivery (R24).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import structlog
from redis import Redis
from redis.exceptions import RedisError

from broker.scripts import script
from broker.settings import Settings
from broker.stream import Begun, Subscription

log = structlog.get_logger()


class Keeper:
    """Extends every lease of a process in one script call, three times in a lease."""

    def __init__(
        self,
        redis_url: str,
        settings: Settings,
        subscription: Subscription,
        *,
        held: Callable[[], Iterable[Begun]],
        lost: Callable[[str], object],
    ) -> None:
        """``held`` and ``lost`` are called in the thread; ``lost`` with a delivery."""
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
            keys, arguments = self._subscription.extension(self._held())
            try:
                lost = self._extend(keys=keys, args=arguments)
            except (RedisError, OSError) as error:
                log.warning("leases_not_extended", error=str(error))
                self._redis.connection_pool.disconnect()  # a replica's, maybe
                continue
            for delivery in lost:
                self._lost(delivery.decode())
