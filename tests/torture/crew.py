"""The processes of ``torture events``, each with its own way to Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from broker.keys import ScopeKeys
from broker.scripts import script
from tests.torture.database import Database
from tests.torture.fleet import Forge, forging
from tests.torture.history import History
from tests.torture.late import Holder, LateAcknowledgement, Place
from tests.torture.mischief import Kind, Step
from tests.torture.publisher import SCOPE
from tests.torture.relay import Relay

SUBSCRIBERS = {"one": 3, "two": 2}
"""How many processes each subscriber has; publishers know how many there are."""
PUBLISHERS = 2
LEASE = 1.0
EVENTS = ScopeKeys(SCOPE).events
_LEAVING = 60.0
_PROCESS = {
    "BGFETCH_LEASE": str(LEASE),
    "BGFETCH_REDELIVERY_BACKOFF": "0.02",
    "BGFETCH_MAX_REDELIVERY_BACKOFF": "0.2",
    # Whoever is killed fails: that must not make dead letters.
    "BGFETCH_MAX_DELIVERIES": "1000",
    "BGFETCH_HANDLERS": "40",
    "BGFETCH_GRACE": "1",
}


class Crew:
    """Consumers and publishers, and what is done to them."""

    def __init__(
        self,
        forge: Forge,
        database: Database,
        history: History,
        places: list[Place],
        publisher: Mapping[str, str],
        publishing: Relay,
        late: LateAcknowledgement,
    ) -> None:
        """``publishing`` is the publishers' way to Redis; faults go to ``history``."""
        self._forge, self._database, self._places = forge, database, places
        self._late = late
        self._history = history
        self._publisher, self._publishing = publisher, publishing
        self._tasks: set[asyncio.Task[object]] = set()
        self._publishers: list[int] = []
        self.complaints: list[str] = []
        """Of processes that ended by themselves, or not as they were told."""

    async def consume(self) -> None:
        """Start every consumer."""
        for place in self._places:
            place.process = await self._forge.start(place.variables)

    async def publish(self, events: int) -> None:
        """Start the publishers, who share so many events."""
        for number in range(PUBLISHERS):
            share = {
                "NAME": f"p{number}",
                "EVENTS": str((events + number) // PUBLISHERS),
            }
            process = await self._forge.start({**self._publisher, **share})
            self._publishers.append(process)

    @property
    def busy(self) -> bool:
        """Whether something that lasts is not over."""
        return bool(self._tasks)

    async def is_publishing(self) -> bool:
        """Whether a publisher is still at work."""
        for process in tuple(self._publishers):
            if code := await self._forge.ended(process):
                self._publishers.remove(process)
                if code != "0":
                    self.complaints.append(f"publisher {process} ended with {code}")
        return bool(self._publishers)

    async def take(self, step: Step, begun: Mapping[int, int]) -> None:
        """Do one thing; what lasts ends later.

        Of the consumers it meets the one with the most handlers that have ``begun``.
        """
        first = int(step.pick * len(self._places))
        places = [*self._places[first:], *self._places[:first]]
        place = max(places, key=lambda place: begun.get(place.process, 0))
        match step.kind:
            case Kind.KILL:
                await self._replace(place, signal.SIGKILL)
            case Kind.LEAVE:
                await self._replace(place, signal.SIGTERM)
            case Kind.STOP:
                self._later(self._stop(place, step.leases * LEASE))
            case Kind.PARTITION:
                self._later(self._part(place, step.leases * LEASE))
            case Kind.CUT:
                place.relay.cut()
                self._publishing.cut()
                self._happened(step.kind, place.process)
            case Kind.MUTE:
                place.relay.lose(script(step.scripts[0]).sha)
                self._publishing.lose(script(step.scripts[1]).sha)
                self._happened(step.kind, place.process, LEASE)
            case Kind.RESTART | Kind.TAIL:
                began = time.monotonic()
                lost = step.seconds if step.kind is Kind.TAIL else 0.0
                await self._database.forget(lost)
                self._happened(step.kind, 0, 2 * LEASE, began)
            case Kind.LATE:
                self._later(self._be_late())
            case Kind.DESTROY:
                names = [*SUBSCRIBERS]
                name = names[int(step.pick * len(names))]
                await asyncio.to_thread(self._database.destroy_group, EVENTS, name)
                self._happened(step.kind, 0)

    async def be_late(self) -> None:
        """Have an acknowledgement by a former holder, before anything else happens."""
        if not await self._be_late(_LEAVING):
            self.complaints.append("nobody began to handle anything")

    async def _be_late(self, *patience: float) -> bool:
        try:
            happened = await self._late.happen(self._places, *patience)
        except TimeoutError as error:
            self.complaints.append(f"late: {error}")
            return True
        if happened:
            process, began = happened
            self._happened(Kind.LATE, process, LEASE, began)
        return happened is not None

    async def leave(self) -> None:
        """Tell the consumers to leave, once everything that lasts is over."""
        await asyncio.gather(*self._tasks)
        for place in self._places:
            await self._end(place.process, signal.SIGTERM)

    async def _replace(self, place: Place, by: signal.Signals) -> None:
        async with place.away:
            began, process = time.monotonic(), place.process
            await self._end(process, by)
            kind = Kind.KILL if by is signal.SIGKILL else Kind.LEAVE
            self._happened(kind, process, float("inf"), began)
            place.process = await self._forge.start(place.variables)

    async def _end(self, process: int, by: signal.Signals) -> None:
        code = await self._forge.ended(process)
        if code:
            self.complaints.append(f"consumer {process} ended by itself: {code}")
            return
        os.kill(process, by)
        try:
            async with asyncio.timeout(_LEAVING):
                code = await self._forge.gone(process)
        except TimeoutError:
            self.complaints.append(f"consumer {process} does not leave")
            os.kill(process, signal.SIGKILL)
            return
        # One that has just begun does not listen yet: the signal ends it.
        if by is signal.SIGTERM and code not in ("0", str(-by)):
            self.complaints.append(f"consumer {process} left with {code}")

    async def _stop(self, place: Place, seconds: float) -> None:
        async with place.away:
            began = time.monotonic()
            os.kill(place.process, signal.SIGSTOP)
            await asyncio.sleep(seconds)
            os.kill(place.process, signal.SIGCONT)
            self._happened(Kind.STOP, place.process, LEASE, began)

    async def _part(self, place: Place, seconds: float) -> None:
        async with place.away:
            began = time.monotonic()
            place.relay.part()
            await asyncio.sleep(seconds)
            place.relay.heal()
            self._happened(Kind.PARTITION, place.process, LEASE, began)

    def _happened(
        self, kind: str, process: int, after: float = 0.0, began: float | None = None
    ) -> None:
        """Note a fault, whose consequences last for ``after`` seconds."""
        now = time.monotonic()
        began = now if began is None else began
        self._history.write("fault", kind, process, began, now + after)

    def _later(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def crew(
    directory: Path,
    database: Database,
    history: History,
    variables: Mapping[str, str],
    holder: Holder,
) -> AsyncIterator[Crew]:
    """Have a crew whose consumers have yet to start; none is left in the end."""
    async with AsyncExitStack() as stack:

        async def relay(name: str) -> Relay:
            made = Relay(directory / f"{name}.sock", database.socket)
            return await stack.enter_async_context(made)

        def variables_for(role: str, way: Relay, **own: str) -> dict[str, str]:
            url = {"BGFETCH_REDIS_URL": way.url}
            return {**_PROCESS, **variables, **url, "ROLE": role, **own}

        places = []
        for subscriber, count in SUBSCRIBERS.items():
            for number in range(count):
                way = await relay(f"{subscriber}{number}")
                its = variables_for("consumer", way, SUBSCRIBER=subscriber)
                places.append(Place(its, way))
        publishing = await relay("publishing")
        publisher = variables_for("publisher", publishing)
        forge = await stack.enter_async_context(forging(directory / "log"))
        late = LateAcknowledgement(Path(variables["HISTORY"]), holder)
        yield Crew(forge, database, history, places, publisher, publishing, late)
