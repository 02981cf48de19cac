"""Rounds of a torture, several at once, on one fleet, one Redis and one store."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from broker.scripts import script
from schemas.errors import Unreachable
from tests.torture.database import Database
from tests.torture.fleet import Fleet
from tests.torture.origins import Nginx, Shelf
from tests.torture.plan import Act, Round, Step, plan_round
from tests.torture.relay import Relay
from tests.torture.verdict import Judge
from workers.demo.origin import Origin

SCOPE = "torture"
_PATIENCE = 150.0  # s for one round
_LOOK_SECONDS = 0.25
_SETTLE_SECONDS = 0.05
_SECOND_LOOK = 24
"""So many rounds later every blob is compared again: zombies have woken by then."""


@dataclass(frozen=True, slots=True)
class Site:
    """All that the rounds share."""

    manager: BackgroundFetchManager
    database: Database
    relay: Relay
    fleet: Fleet
    origin: Origin
    nginx: Nginx | None
    judge: Judge


@dataclass(slots=True)
class Ended:
    """A round whose blobs were compared once."""

    plan: Round
    registration: BackgroundFetchRegistration
    keys: FetchKeys
    shelves: list[Shelf]


@dataclass(slots=True)
class Tally:
    """What came of all rounds so far."""

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Rounds:
    """Runs rounds, and compares what they leave with the versions that existed."""

    def __init__(
        self, site: Site, seed: int, tally: Tally, tell: Callable[[str], None]
    ) -> None:
        self._site = site
        self._seed = seed
        self._tally = tally
        self._tell = tell
        self._numbers: dict[str, int] = {}
        self._ended: deque[Ended] = deque()

    async def run(self, numbers: range, at_once: int) -> None:
        """Run these rounds, so many at once."""
        left = iter(numbers)

        async def one_after_another() -> None:
            for number in left:
                await self._round(number)
                await self._site.fleet.check()

        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(one_after_another())
        while self._ended:
            await self._compare_again(self._ended.popleft())
        await self._count_events()
        for complaint in self._site.fleet.complaints:
            self._wrong(None, complaint)

    async def _round(self, number: int) -> None:
        site = self._site
        plan = plan_round(self._seed, number, nginx=site.nginx is not None)
        shelves = [
            Shelf(site.origin, site.nginx, f"/{number}-{index}", file)
            for index, file in enumerate(plan.files)
        ]
        registration = await self._begin(plan, shelves)
        ended = Ended(plan, registration, FetchKeys(SCOPE, registration.uid), shelves)
        self._numbers[registration.uid] = number
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._watch(ended)
                await self._settled(ended.keys)
        except TimeoutError:
            self._wrong(number, f"stuck: {await self._describe(ended.keys)}")
        else:
            await self._compare(ended)
            self._ended.append(ended)
        self._tally.rounds += 1
        self._count_segments()
        if len(self._ended) > _SECOND_LOOK:
            await self._compare_again(self._ended.popleft())

    def _count_segments(self) -> None:
        """Count, at one origin, the requests for a range that ends before the file."""
        log = self._site.origin.log
        ranges = (seen.headers.get("range", "") for seen in log)
        ended = sum(bool(asked) and not asked.endswith("-") for asked in ranges)
        if ended:
            self._tally.faults["segments"] += ended
        log.clear()

    async def _begin(
        self, plan: Round, shelves: list[Shelf]
    ) -> BackgroundFetchRegistration:
        async with self._site.database.whole:
            registration = await self._site.manager.fetch(
                f"round-{plan.number}",
                [shelf.url for shelf in shelves],
            )
            self._site.database.keep()
        return registration

    async def _watch(self, ended: Ended) -> None:
        """Take each step when its share is downloaded, at the latest at the end."""
        registration, least = ended.registration, ended.plan.least
        for step in ended.plan.steps:
            while True:
                downloaded, over = await self._progress(ended.keys)
                if over or downloaded >= step.share * least:
                    break
                await self._news(registration)
            await self._take(step, ended)

    async def _take(self, step: Step, ended: Ended) -> None:
        site = self._site
        if step.act is not Act.SWAP:
            await asyncio.sleep(step.delay)
        self._tally.faults[step.act] += 1
        match step.act:
            case Act.SWAP:
                ended.shelves[step.file].show(step.version)
            case Act.KILL:
                await site.fleet.kill(step.pick)
            case Act.STOP:
                await site.fleet.stop(step.pick, step.seconds)
            case Act.LEAVE:
                await site.fleet.leave(step.pick)
            case Act.CUT:
                site.relay.cut()
            case Act.MUTE:
                site.relay.lose(script(step.script).sha)
            case Act.CRASH:
                await site.database.crash()
            case Act.FORGET:
                await site.database.crash(step.lost)

    async def _settled(self, keys: FetchKeys) -> None:
        while not (await self._progress(keys))[1]:  # noqa: ASYNC110
            await asyncio.sleep(_SETTLE_SECONDS)

    async def _progress(self, keys: FetchKeys) -> tuple[int, bool]:
        """Bytes downloaded, and whether there is a result: what Redis says now."""
        while True:
            try:
                found: list[bytes | None] = await self._site.manager.connection.ask(
                    "HMGET", keys.fetch, "downloaded", "result"
                )
            except Unreachable:
                await asyncio.sleep(_LOOK_SECONDS)
            else:
                return int(found[0] or 0), bool(found[1])

    async def _news(self, registration: BackgroundFetchRegistration) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await registration.changed(since=registration.state.progress)
        except (TimeoutError, Unreachable):
            return

    async def _compare(self, ended: Ended) -> None:
        while True:
            await self._settled(ended.keys)
            try:
                wrong = await self._site.judge.violations(ended.keys, ended.shelves)
            except Unreachable:
                continue
            # What was said of a fetch that Redis has forgotten to be over is void.
            if (await self._progress(ended.keys))[1]:
                break
        for what in wrong:
            self._wrong(ended.plan.number, what)

    async def _compare_again(self, ended: Ended) -> None:
        number = ended.plan.number
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._compare(ended)
                async with self._site.database.whole:
                    self._site.database.keep()
                    await self._site.judge.delete(ended.keys, len(ended.shelves))
        except TimeoutError:
            self._wrong(number, f"stuck again: {await self._describe(ended.keys)}")
        for shelf in ended.shelves:
            shelf.clear()

    async def _count_events(self) -> None:
        """Exactly one completion event for each fetch (guarantee 3)."""
        rows: list[tuple[bytes, dict[bytes, bytes]]]
        rows = await self._site.manager.connection.ask(
            "XRANGE", ScopeKeys(SCOPE).events, "-", "+"
        )
        counts = Counter(
            fields[b"delivery"].decode().partition("/")[0] for _, fields in rows
        )
        for uid, number in self._numbers.items():
            if counts[uid] != 1:
                self._wrong(number, f"{counts[uid]} completion events")

    async def _describe(self, keys: FetchKeys) -> str:
        ask = self._site.manager.connection.ask
        shown = {
            name: await ask(*command)
            for name, command in {
                "fetch": ("HGETALL", keys.fetch),
                "lanes": ("HGETALL", keys.lanes),
                "claims": ("ZRANGE", keys.claims, 0, -1, "WITHSCORES"),
                "pool": ("ZRANGE", keys.pool, 0, -1, "WITHSCORES"),
                "states": ("HGETALL", keys.states),
                "jobs": ("HGETALL", keys.jobs),
            }.items()
        }
        return repr(shown)

    def _wrong(self, number: int | None, what: str) -> None:
        where = "" if number is None else f"round {number}: "
        self._tally.violations.append(where + what)
        self._tell(f"violation: {where}{what}")
