"""The real thing beside the model: the broker's own objects on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from typing_extensions import override

from broker.agenda import Agenda
from broker.connection import Connection
from broker.dead_letters import DeadLetters
from broker.deliveries import Begun, Delivery
from broker.keys import RECLAIM, FetchKeys
from broker.lanes import LaneHold
from broker.manager import BackgroundFetchManager
from broker.places import described
from broker.queue import QUEUES
from broker.registration import BackgroundFetchRegistration
from broker.scripts import Argument
from broker.settings import Settings
from broker.stream import Subscription
from broker.subscribers import Subscribers
from schemas.events import EventMessage
from tests.model.ageing import HOUR
from tests.model.events import MAX_FAILURES
from tests.model.fetches import GRACE, LANE_SIZE, LANES, LEASE, RETENTION
from workers.reclaim import Reclaimer

SCOPE = "model"
NOBODY = "nobody"
"""Stands where messages have the uid of a fetch, and is none."""
_PASSES = 30
REPEATABLE = (
    *("register", "abort", "click", "pause_fetch", "resume_fetch", "unhold"),
    *("ack", "nack", "leave", "replay", "conclude"),
)
"""Calls that change nothing when they are repeated, however late (R22, R23)."""


def model_settings(url: str) -> Settings:
    """Settings under which nothing happens unless time is made to pass."""
    return Settings(
        redis_url=url,
        lease=timedelta(milliseconds=LEASE * HOUR),
        release_grace=timedelta(milliseconds=GRACE * HOUR),
        retention=timedelta(milliseconds=RETENTION * HOUR),
        progress_interval=timedelta(milliseconds=1),
        max_lanes=LANES,
        lane_size=LANE_SIZE,
        max_deliveries=MAX_FAILURES,
        scope_lanes=2,
    )


class Echoing(Connection):
    """Repeats calls: answers are lost, and clients ask again, at once or later."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.times = 1
        self.sent: list[tuple[str, Sequence[str], Sequence[Argument]]] = []

    @override
    async def run(
        self, name: str, keys: Sequence[str], arguments: Sequence[Argument] = ()
    ) -> Any:
        for _ in range(self.times - 1):
            await super().run(name, keys, arguments)
        answer = await super().run(name, keys, arguments)
        if name in REPEATABLE and not _still_open(name, arguments, answer):
            self.sent.append((name, keys, arguments))
        return answer

    async def repeat(self, number: int) -> str:
        """Send a former call once more; its name."""
        name, keys, arguments = self.sent[number]
        await super().run(name, keys, arguments)
        return name


def _still_open(name: str, arguments: Sequence[Argument], answer: Any) -> bool:
    """Whether a repetition may do later what the call did not do now."""
    if name == "nack":  # by whoever finds a lease ended
        return arguments[7] == ""
    return isinstance(answer, list) and answer[:1] not in ([], [b"ok"], [1], [0])


class Hearing(BackgroundFetchManager):
    """A manager that can wait until it has heard everything that was published."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        super().__init__(connection, settings, SCOPE, "https://cdn.example/")
        self.news = asyncio.Event()

    @override
    def _update(self, told: dict[str, object]) -> None:
        if told.get("uid") == NOBODY:
            self.news.set()
        super()._update(told)


@dataclass
class Lane:
    """A process's right to records of a fetch, and which it knows to be its own."""

    uid: str
    hold: LaneHold
    known: set[int]


@dataclass
class Process:
    """A process of a subscriber, and what it has read so far."""

    number: int
    subscription: Subscription
    known: dict[str, Delivery] = field(default_factory=dict)


class World:
    """One scope on an empty Redis."""

    def __init__(self, url: str) -> None:
        self.settings = model_settings(url)
        self.connection = Echoing(url)
        self.manager = Hearing(self.connection, self.settings)
        self.registrations: dict[str, BackgroundFetchRegistration] = {}
        self.lanes: dict[int, Lane] = {}
        self.processes: dict[int, Process] = {}
        self.began: dict[int, tuple[Process, Begun]] = {}
        connection = self.connection
        self.letters = DeadLetters(connection, self.settings, SCOPE)
        self.subscribers = Subscribers(connection, self.settings, SCOPE)
        self.agenda = Agenda(connection, self.settings)
        queue = self.manager.queue
        self._reclaimer = Reclaimer(self.agenda, queue, None, self.settings)

    async def open(self) -> None:
        """Begin with nothing, in the midst of a time in which reclaimers lived."""
        await self.connection.ask("FLUSHALL")
        await self.agenda.grace(self.settings.lease)
        await self.connection.ask("HSET", RECLAIM, "grace_until", 0)
        await self.manager.watching()

    async def aclose(self) -> None:
        """Close every connection."""
        for process in self.processes.values():
            await process.subscription.aclose()
        await self.manager.aclose()
        await self.connection.aclose()

    async def pop_job(self) -> str | None:
        """Take the next job from RQ's queues, as its workers do."""
        for name in QUEUES.values():
            job: bytes | None = await self.connection.ask("LPOP", f"rq:queue:{name}")
            if job is not None:
                return job.decode()
        return None

    def hold(self, uid: str) -> LaneHold:
        """What a worker takes a lane with."""
        return LaneHold(self.connection, self.settings, FetchKeys(SCOPE, uid))

    async def admit(self, hold: LaneHold) -> None:
        """Enqueue what got a place, as a worker does."""
        jobs, hold.admitted = hold.admitted, []
        lanes = await described(self.connection, SCOPE, jobs)
        await self.manager.queue.enqueue(lanes)

    async def reclaim(self) -> None:
        """Let a reclaimer make passes until nothing is due; it must come to an end."""
        for _ in range(_PASSES):
            await self._reclaimer.make_pass()
            if not await self.agenda.due():
                return
        raise AssertionError(f"busy: {await self.agenda.due()} stay due (R25)")

    async def start(self, number: int, subscriber: str) -> None:
        """Start a process of a subscriber."""
        made = Subscription(self.connection, self.settings, SCOPE, subscriber)
        self.processes[number] = Process(number, made)
        await made.join()

    async def stop(self, number: int) -> None:
        """Let a process die without a word."""
        await self.processes.pop(number).subscription.aclose()

    async def read(self, process: Process) -> None:
        """Read what is new and what is due."""
        sub = process.subscription
        rows = [*await sub.glance(100), *await sub.collect(100)]
        for entry, message in rows:
            if message:  # of a forgotten fetch there is none
                event = EventMessage.decode(message)
                process.known[entry] = Delivery(entry, event, sub.subscriber)

    async def take_over(self, process: Process) -> None:
        """End what dead processes of the same subscriber held."""
        sub = process.subscription
        for member in await sub.expired():
            await sub.expire(member)
        for consumer in await sub.dead_consumers():
            await sub.bury(consumer)

    async def extend(self, process: Process, held: list[Begun]) -> list[bytes]:
        """Keep a process's place and what it works on; what is lost."""
        keys, arguments = process.subscription.extension(held)
        lost: list[bytes] = await self.connection.run("extend", keys, arguments)
        return lost
