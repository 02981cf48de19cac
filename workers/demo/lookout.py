"""What can be seen of the demo's fetches from outside, in Redis and at the origin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from broker.keys import FetchKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from schemas.fetches import Result
from workers.demo.catalogue import Plan
from workers.demo.children import Crew
from workers.demo.origin import Origin, Seen

TICK = 0.05
"""Seconds between two looks."""
PATIENCE = 40.0


class Stuck(Exception):
    """Something that the story needs did not happen; the message says what."""


@dataclass(slots=True)
class Delivered:
    """One event of a fetch, and what became of it at its subscriber."""

    event: str
    subscriber: str = ""
    status: str = "published"
    attempt: int = 0
    failures: int = 0

    @property
    def type(self) -> str:
        """The event's type: clicks are numbered."""
        return self.event.partition(".")[0]

    @property
    def acknowledged(self) -> bool:
        """Whether its promises have settled, and it will never come again."""
        return self.status == "acked"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it reached the origin."""

    seen: Seen
    at: float
    """Seconds of the monotonic clock."""

    @property
    def start(self) -> int:
        """The first byte that it asks for."""
        text = self.seen.headers.get("range", "bytes=0-")
        return int(text.removeprefix("bytes=").partition("-")[0])

    @property
    def if_range(self) -> str | None:
        """The version that it wants the rest of."""
        return self.seen.headers.get("if-range")


@dataclass(slots=True)
class Watched:
    """One fetch of the story as it stands."""

    plan: Plan
    registration: BackgroundFetchRegistration
    worker: str = ""
    """Who holds it now, or held it last."""
    held: bool = False
    """Whether some worker's lease is running."""
    checkpoint: int = 0
    """Bytes of its first record that a successor need not fetch again."""
    events: dict[str, Delivered] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it has a result, and its completion event is acknowledged."""
        return self.registration.result is not Result.ACTIVE and self.handled(
            "success", "fail", "abort"
        )

    def handled(self, *kinds: str) -> bool:
        """Whether an event of these kinds is acknowledged."""
        wanted = {f"backgroundfetch{kind}" for kind in kinds}
        return any(
            event.type in wanted and event.acknowledged
            for event in self.events.values()
        )


class Lookout:
    """Looks many times a second, and lets the story wait for what it sees."""

    def __init__(
        self,
        manager: BackgroundFetchManager,
        origin: Origin,
        crew: Crew,
        acknowledged: Callable[[Watched, Delivered], object],
        looked: Callable[[], object],
    ) -> None:
        """Calls ``acknowledged`` once for each event, ``looked`` after each look."""
        self.fetches: dict[str, Watched] = {}
        self.requests: list[Request] = []
        self._manager = manager
        self._origin = origin
        self._crew = crew
        self._acknowledged = acknowledged
        self._looked = looked
        self._ticked = asyncio.Event()  # replaced by a new one at every look

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Look for as long as the block runs."""
        self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def watch(self, plan: Plan, registration: BackgroundFetchRegistration) -> Watched:
        """Begin to look at a fetch."""
        self.fetches[plan.id] = Watched(plan, registration)
        return self.fetches[plan.id]

    def asked_for(self, path: str) -> list[Request]:
        """The requests for one path, in order."""
        return [request for request in self.requests if request.seen.path == path]

    async def until(
        self, condition: Callable[[], bool], what: str, patience: float = PATIENCE
    ) -> None:
        """Return once ``condition`` holds.

        Raises:
            Stuck: it did not within ``patience`` seconds, or a process was lost.
        """
        deadline = time.monotonic() + patience
        while not condition():
            if lost := self._crew.lost():
                raise Stuck(f"{lost}, while the story waited until {what}")
            if time.monotonic() > deadline:
                raise Stuck(f"after {patience:g} s it was still not so that {what}")
            if self._task.done():
                await self._task
            with suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._ticked.wait()

    async def _run(self) -> None:
        while True:
            self._look_at_origin()
            for watched in list(self.fetches.values()):
                await self._look_at(watched)
                self._look_at_origin()
            self._looked()
            self._ticked.set()
            self._ticked = asyncio.Event()
            await asyncio.sleep(TICK)

    def _look_at_origin(self) -> None:
        now = time.monotonic()
        for seen in self._origin.log[len(self.requests) :]:
            self.requests.append(Request(seen, now))

    async def _look_at(self, watched: Watched) -> None:
        registration = watched.registration
        keys = FetchKeys(registration.scope, registration.uid)
        await registration.refresh()
        rows = await self._manager.connection.ask("HGETALL", keys.events)
        self._read_events(watched, {k.decode(): v.decode() for k, v in rows.items()})
        if registration.result is Result.ACTIVE:
            look = await self._manager.reader.look(keys, 0)
            known = look.state.checkpoint
            watched.checkpoint = known.length if known else 0
        lanes = await self._manager.connection.ask("HVALS", keys.lanes)
        watched.held = bool(lanes)
        for lane in lanes:
            job = lane.decode().split(" ")[2]
            # RQ's own record of the job says which of its workers has it.
            name = await self._manager.connection.ask(
                "HGET", f"rq:job:{job}", "worker_name"
            )
            if name:
                watched.worker = (
                    name.decode()
                    .removeprefix(f"{registration.scope}-")
                    .rpartition("-")[0]
                )

    def _read_events(self, watched: Watched, rows: dict[str, str]) -> None:
        for name in sorted(row for row in rows if "|" not in row):
            watched.events.setdefault(name, Delivered(name))
        for name in sorted(row for row in rows if row.count("|") == 1):
            event, _, subscriber = name.partition("|")
            status, failures, attempt = rows[name].split(" ")[:3]
            delivered = watched.events.setdefault(event, Delivered(event))
            before = delivered.acknowledged
            delivered.subscriber, delivered.status = subscriber, status
            delivered.failures, delivered.attempt = int(failures), int(attempt)
            if delivered.acknowledged and not before:
                self._acknowledged(watched, delivered)
