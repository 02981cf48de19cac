"""Time in Redis, as tests move it: no test waits for a lease to end."""

from __future__ import annotations

from datetime import timedelta

from broker.keys import AGENDA, FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import milliseconds

SCOPE = "podcasts"


class Clock:
    """Lets time pass in Redis by moving what is written there into the past."""

    def __init__(self, manager: BackgroundFetchManager) -> None:
        self._redis = manager.connection.redis

    async def age_lanes(self, keys: FetchKeys, by: timedelta) -> None:
        """Move the leases of a fetch's lanes, and its place in the agenda."""
        for lane, value in (await self._redis.hgetall(keys.lanes)).items():  # type: ignore[misc]
            nonce, deadline, job = value.decode().split(" ")
            moved = f"{nonce} {int(deadline) - milliseconds(by)} {job}"
            await self._redis.hset(keys.lanes, lane, moved)  # type: ignore[misc]
        await self._redis.zincrby(AGENDA, -milliseconds(by), keys.member)

    async def age_deliveries(self, subscriber: str, by: timedelta) -> None:
        """Move the leases, due times and consumers of a subscriber."""
        keys = ScopeKeys(SCOPE).subscriber(subscriber)
        for key in (keys.leases, keys.due, keys.consumers):
            for member in await self._redis.zrange(key, 0, -1):
                await self._redis.zincrby(key, -milliseconds(by), member)

    async def age_settlement(self, keys: FetchKeys, by: timedelta) -> None:
        """Move the moment at which a fetch ended, and its hold."""
        for field in ("settledAt", "holdUntil"):
            await self._redis.hincrby(keys.fetch, field, -milliseconds(by))  # type: ignore[misc]
        await self._redis.zincrby(AGENDA, -milliseconds(by), keys.member)
