"""Removing a scope, as ``ServiceWorkerRegistration.unregister()`` does (BF-LIFE-02).

Its fetches end without an event, its subscribers go, and then the scope itself, in many
short script calls (R22). Until the last one the scope takes nothing in: a ``fetch()``
is refused, or belongs to the scope that comes after. What is interrupted, any reclaimer
finishes; bytes are deleted by those that have their store, after their last reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.connection import Connection
from broker.context import context
from broker.keys import (
    ABORTS,
    CLEARED,
    LEAVING,
    PRESENCE,
    PULLED,
    RECLAIM,
    REMOVED,
    REMOVING,
    SCOPES,
    FetchKeys,
    ScopeKeys,
)
from broker.places import places
from broker.settings import Settings, milliseconds

BATCH = 50
"""Fetches, or subscribers, in one call: a script's work is bounded (R22)."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a removal came to."""

    cleared: int = 0
    """Fetches that nobody finds any more."""
    jobs: tuple[str, ...] = ()
    """Jobs that are to leave RQ's queues."""
    done: bool = False
    """Whether nothing of the scope is left but bytes, and who reads them."""


class Removal:
    """The removal of one scope. Safe in any number of processes, and to repeat."""

    def __init__(self, connection: Connection, settings: Settings, scope: str) -> None:
        self._connection = connection
        self._settings = settings
        self._scope = ScopeKeys(scope)

    async def begin(self) -> int:
        """Close the scope; return how many fetches it has, -1 if there is no scope.

        Raises:
            Unreachable: Redis does not answer.
        """
        keys = self._scope
        at_once = (keys.events, *keys.lines())
        count: int = await self._connection.run(
            "unregister",
            [keys.scope_hash, SCOPES, REMOVING, keys.fetches, *at_once],
            [keys.scope],
        )
        return count

    async def step(self) -> Step:
        """Do a little more of it.

        Raises:
            Unreachable: Redis does not answer.
        """
        uids: list[bytes] = await self._connection.ask(
            "ZRANGE", self._scope.fetches, 0, BATCH - 1
        )
        if uids:
            jobs = await self._clear([uid.decode() for uid in uids])
            done = not await self._connection.ask("SISMEMBER", REMOVING, self._name)
            return Step(len(uids), tuple(job.decode() for job in jobs), done)
        await self._dismiss()
        return Step(done=await self._finish())

    @property
    def _name(self) -> str:
        return self._scope.scope

    async def _clear(self, uids: Sequence[str]) -> list[bytes]:
        keys = [self._scope.fetch(uid) for uid in uids]
        names, arguments = context(keys[0], self._settings)
        place_keys, place_arguments = places(keys[0], self._settings)
        jobs: list[bytes] = await self._connection.run(
            "clear",
            [
                *names,
                self._scope.latest,
                CLEARED,
                *(key for each in keys for key in each.all()),
                *place_keys,
            ],
            [*arguments, ABORTS, len(keys[0].all()), *uids, *place_arguments],
        )
        return jobs

    async def _dismiss(self) -> None:
        found: list[bytes] = await self._connection.ask(
            "HKEYS", self._scope.subscribers
        )
        for start in range(0, len(found), BATCH):
            some = [
                self._scope.subscriber(name.decode())
                for name in found[start : start + BATCH]
            ]
            await self._connection.run(
                "dismiss",
                [
                    self._scope.scope_hash,
                    self._scope.subscribers,
                    LEAVING,
                    PRESENCE,
                    RECLAIM,
                    PULLED,
                    *(key for each in some for key in each.all()),
                ],
                [part for each in some for part in (each.name, each.member)],
            )

    async def _finish(self) -> bool:
        keys = self._scope
        return bool(
            await self._connection.run(
                "unregistered",
                [
                    keys.scope_hash,
                    SCOPES,
                    REMOVING,
                    REMOVED,
                    keys.fetches,
                    keys.subscribers,
                    *keys.rest(),
                ],
                [self._name, milliseconds(self._settings.retention)],
            )
        )


async def removals(connection: Connection, settings: Settings) -> list[Removal]:
    """Return the removals that somebody began, and that are not done (R25).

    Raises:
        Unreachable: Redis does not answer.
    """
    scopes: set[bytes] = await connection.ask("SMEMBERS", REMOVING)
    return [Removal(connection, settings, name.decode()) for name in sorted(scopes)]


async def bytes_left(connection: Connection, scope: str) -> int:
    """Count the fetches of a removed scope whose bytes are still to be deleted.

    Raises:
        Unreachable: Redis does not answer.
    """
    pattern, count, cursor = FetchKeys(scope, "*").member, 0, None
    while cursor != 0:
        cursor, rows = await connection.ask(
            "ZSCAN", CLEARED, cursor or 0, "MATCH", pattern, "COUNT", 1000
        )
        count += len(rows)
    return count
