"""The subscribers of a scope: how each is getting on; pause, resume, remove (R21)."""

from __future__ import annotations

from broker.connection import Connection
from broker.departures import settle_departed
from broker.keys import LEAVING, PRESENCE, ScopeKeys
from broker.replays import Moment, replay_range
from broker.settings import Settings
from broker.standing import SubscriberLook, look_at_all, memberships
from schemas.errors import InvalidState


class Subscribers:
    """The subscribers of one scope."""

    def __init__(self, connection: Connection, settings: Settings, scope: str) -> None:
        self.scope = scope
        self._connection = connection
        self._settings = settings
        self._keys = ScopeKeys(scope)

    async def names(self) -> list[str]:
        """Return the names of all subscribers that are owed events, in order.

        Raises:
            Unreachable: Redis does not answer.
        """
        found = await memberships(self._connection, self._keys)
        return [name for name, newest in found.items() if newest.left is None]

    async def look(self) -> list[SubscriberLook]:
        """Return how each subscriber stands, by name.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await look_at_all(self._connection, self._keys)

    async def pause(self, name: str) -> bool:
        """Let nothing new begin at a subscriber; False if there is no such.

        What runs goes on, and keeps its leases. Events are still owed to it: its lag
        grows, and their records stay. It stays paused, whoever starts or stops, until
        ``resume``; its processes notice within a second.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await self._set_paused(name, paused=True)

    async def resume(self, name: str) -> bool:
        """Undo ``pause``; False if there is no such subscriber.

        Raises:
            Unreachable: Redis does not answer.
        """
        return await self._set_paused(name, paused=False)

    async def _set_paused(self, name: str, *, paused: bool) -> bool:
        state = self._keys.subscriber(name).state
        return bool(
            await self._connection.run(
                "pause", [self._keys.subscribers, state], [name, int(paused)]
            )
        )

    async def replay(
        self, name: str, *, since: Moment, until: Moment | None = None
    ) -> int:
        """Deliver again what was published in a time range, as far as it is there.

        They are the same deliveries, their failures forgotten: dead letters, those that
        wait for another attempt, and those that were settled. What was settled keeps
        its outcome and is not owed anew, so records may be released; nor is what the
        subscriber was never owed, from before its time or its filter. Its present
        filter decides about both. What runs, or is still to come, is left alone.

        Times are by Redis's clock; a timedelta is so long ago; ``until`` is now by
        default. Returns how many deliveries come again.

        Raises:
            Unreachable: Redis does not answer. Some may have been replayed.
        """
        return await replay_range(
            self._connection, self._settings, self.scope, name, since, until
        )

    async def remove(self, name: str) -> bool:
        """Take a subscriber out of the scope's set; False if there is no such.

        Later events are not owed to it. What it was owed is settled as ``removed``,
        its dead letters too, so that records are released. A call that is interrupted
        is finished by any worker, or by repeating it.

        Raises:
            InvalidState: a process of it lives, or did within the last lease.
            Unreachable: Redis does not answer.
        """
        keys, mine = self._keys, self._keys.subscriber(name)
        verdict: bytes = await self._connection.run(
            "remove",
            [
                keys.scope_hash,
                keys.subscribers,
                keys.events,
                mine.consumers,
                LEAVING,
                PRESENCE,
            ],
            [name, mine.member],
        )
        if verdict == b"alive":
            raise InvalidState(
                f"subscriber {name!r} of scope {self.scope!r} has live processes: stop "
                "them; a killed one counts until its lease is over"
            )
        if verdict == b"unknown":
            return False
        await settle_departed(self._connection, self._settings, self.scope, name)
        return True
