"""The agenda: which fetches need a look, and what a look came to (R15, R25)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from broker.connection import Connection
from broker.context import context
from broker.deliveries import DeliveryName, conclude
from broker.departures import departing, settle_departed
from broker.keys import AGENDA, CLEARED, RECLAIM, FetchKeys, ScopeKeys
from broker.places import described, places
from broker.presence import Absence, expire_absent
from broker.queue import LaneJob, queue_key
from broker.removal import removals
from broker.settings import Settings, milliseconds
from schemas.events import DeliveryOutcome
from schemas.fetches import Priority
from schemas.records import RecordState

BATCH = 100
STEPS = 100
"""Steps of one scope's removal in a pass: lanes are not to wait for more."""


class Verdict(StrEnum):
    """What a look at a fetch came to."""

    WORK = "work"
    WAIT = "wait"
    RELEASED = "released"
    PURGE = "purge"
    FORGET = "forget"
    GONE = "gone"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Look:
    """The outcome of one look, and what is left for the caller to do."""

    verdict: Verdict
    jobs: tuple[LaneJob, ...] = ()
    """RQ jobs to enqueue, also of other fetches of the scope that got a place."""
    dead_jobs: tuple[str, ...] = ()
    """RQ jobs of lanes whose lease ended."""
    overdue: tuple[DeliveryName, ...] = ()
    """Deliveries that nobody has settled though the retention has ended."""


class Agenda:
    """Looks at fetches whose time has come. Safe to run in any number of processes."""

    def __init__(
        self, connection: Connection, settings: Settings, key: str = AGENDA
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._key = key

    def of_removed(self) -> Agenda:
        """That of removed scopes: however much they leave, lanes come first."""
        return Agenda(self._connection, self._settings, CLEARED)

    async def grace(self, lease: timedelta, *, name: str = "") -> timedelta:
        """Record a pass; return how long nothing may be taken over yet (R15)."""
        server = await self._connection.ask("INFO", "server")
        left = await self._connection.run(
            "pass", [RECLAIM], [str(server["run_id"]), milliseconds(lease), name]
        )
        return timedelta(milliseconds=left)

    async def forget_passes(self, *, name: str) -> None:
        """Delete what passes under a name have recorded: nobody makes them any more."""
        fields = (f"{name}{field}" for field in ("time", "run_id", "grace_until"))
        await self._connection.ask("HDEL", RECLAIM, *fields)

    async def due(self) -> list[FetchKeys]:
        """Return some of the fetches to look at now, the longest due first."""
        now = await self._connection.now()
        members: list[bytes] = await self._connection.ask(
            "ZRANGEBYSCORE", self._key, "-inf", now, "LIMIT", 0, BATCH
        )
        return [FetchKeys(*member.decode().split("/", 1)) for member in members]

    async def look(self, keys: FetchKeys) -> Look:
        """Do what is due for one fetch, and write down when to look again."""
        priority: bytes | None = await self._connection.ask(
            "HGET", keys.fetch, "priority"
        )
        queue = queue_key(priority.decode() if priority else Priority.AUTO)
        names, arguments = context(keys, self._settings, self._key)
        place_keys, place_arguments = places(keys, self._settings)
        scope = ScopeKeys(keys.scope)
        verdict, jobs, dead, *overdue = await self._connection.run(
            "look",
            [
                *names,
                keys.lanes,
                keys.claims,
                keys.pool,
                queue,
                RECLAIM,
                keys.readers,
                scope.latest,
                scope.subscribers,
                *keys.all(),
                *place_keys,
            ],
            [
                *arguments,
                self._settings.max_lanes,
                self._settings.lane_size,
                *place_arguments,
            ],
        )
        return Look(
            Verdict(verdict.decode()),
            tuple(await described(self._connection, keys.scope, jobs)),
            tuple(job.decode() for job in dead if job),
            _names(keys.scope, overdue[0] if overdue else []),
        )

    async def expire(self, deliveries: Iterable[DeliveryName]) -> int:
        """Settle deliveries as expired, each with a copy for people (R9).

        Returns how many are so settled.
        """
        expired = DeliveryOutcome.EXPIRED
        return sum(
            [
                await conclude(self._connection, self._settings, delivery, expired)
                for delivery in deliveries
            ]
        )

    async def settle_departures(self) -> None:
        """Finish what removals of subscribers left undone (R25)."""
        for scope, name in await departing(self._connection):
            await settle_departed(self._connection, self._settings, scope, name)

    async def remove_scopes(self) -> tuple[str, ...]:
        """Go on with removals of scopes (R25); return jobs that are to leave RQ."""
        jobs: tuple[str, ...] = ()
        for removal in await removals(self._connection, self._settings):
            for _ in range(STEPS):
                step = await removal.step()
                jobs += step.jobs
                if step.done:
                    break
        return jobs

    async def expire_subscribers(self) -> list[Absence]:
        """Take out of their sets the subscribers that nobody runs any more (R21)."""
        return await expire_absent(self._connection, self._settings)

    async def parts(self, keys: FetchKeys) -> dict[str, set[str]]:
        """Return the files of a fetch's records by store, request bodies included."""
        found: dict[str, set[str]] = {}
        for value in await self._connection.ask("HVALS", keys.bodies):
            store, _, name = value.decode().partition("/")
            found.setdefault(store, set()).add(name)
        cursor = None
        while cursor != 0:
            cursor, rows = await self._connection.ask(
                "HSCAN", keys.records, cursor or 0, "COUNT", BATCH
            )
            for value in rows.values():
                checkpoint = RecordState.decode(value).checkpoint
                if checkpoint is not None:
                    found.setdefault(checkpoint.store, set()).add(checkpoint.part)
        return found

    async def purged(self, keys: FetchKeys) -> None:
        """Forget the records of a released fetch whose bytes are deleted."""
        kept = {keys.fetch, keys.events, keys.tokens, keys.requests, keys.journal}
        gone = [key for key in keys.all() if key not in kept]
        await self._connection.run(
            "purged",
            [keys.fetch, self._key, keys.requests, *gone],
            [keys.member, milliseconds(self._settings.retention)],
        )


def _names(scope: str, rows: Sequence[bytes]) -> tuple[DeliveryName, ...]:
    return tuple(
        DeliveryName.of(scope, subscriber.decode(), member.decode())
        for member, subscriber in zip(rows[::2], rows[1::2], strict=True)
    )
