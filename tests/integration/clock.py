"""Time in Redis, as tests move it: no test waits for a lease to end."""

from __future__ import annotations

from datetime import timedelta

from broker.keys import AGENDA, PRESENCE, FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.settings import milliseconds

SCOPE = "podcasts"


class Clock:
    """Lets time pass in Redis by moving what is written there into the past."""

    def __init__(self, manager: BackgroundFetchManager) -> None:
        self._ask = manager.connection.ask

    async def age_lanes(self, keys: FetchKeys, by: timedelta) -> None:
        """Move the leases of a fetch's lanes, and its place in the agenda."""
        lanes: dict[bytes, bytes] = await self._ask("HGETALL", keys.lanes)
        for lane, value in lanes.items():
            nonce, deadline, job = value.decode().split(" ")
            moved = f"{nonce} {int(deadline) - milliseconds(by)} {job}"
            await self._ask("HSET", keys.lanes, lane, moved)
        await self._ask("ZINCRBY", AGENDA, -milliseconds(by), keys.member)

    async def age_deliveries(self, subscriber: str, by: timedelta) -> None:
        """Move the leases, due times and consumers of a subscriber."""
        keys = ScopeKeys(SCOPE).subscriber(subscriber)
        for key in (keys.leases, keys.due, keys.consumers):
            members: list[bytes] = await self._ask("ZRANGE", key, 0, -1)
            for member in members:
                await self._ask("ZINCRBY", key, -milliseconds(by), member)

    async def age_subscriber(self, subscriber: str, by: timedelta) -> None:
        """Move when a process of a subscriber was there, and the next look for one."""
        keys = ScopeKeys(SCOPE).subscriber(subscriber)
        await self.age_deliveries(subscriber, by)
        await self._ask("HINCRBY", keys.state, "seen", -milliseconds(by))
        await self._ask("ZINCRBY", PRESENCE, -milliseconds(by), keys.member)

    async def age_settlement(self, keys: FetchKeys, by: timedelta) -> None:
        """Move the moment at which a fetch ended, and its hold."""
        for field in ("settledAt", "holdUntil", "releasedAt"):
            await self._ask("HINCRBY", keys.fetch, field, -milliseconds(by))
        await self._ask("ZINCRBY", AGENDA, -milliseconds(by), keys.member)
