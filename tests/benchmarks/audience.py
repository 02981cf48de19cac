"""``subscribers``: what a publication costs when a scope has many subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

from redis.asyncio import Redis

from broker.inbox import Inbox
from broker.keys import ScopeKeys
from broker.manager import BackgroundFetchManager
from broker.registration import BackgroundFetchRegistration
from tests.benchmarks.listeners import SCOPE
from tests.benchmarks.measure import peak_mib
from tests.benchmarks.queues import register
from tests.benchmarks.report import Figures
from tests.benchmarks.stage import redis_name, stage

_MOST = 1000
_CLICKS, _READ_CLICKS = 300, 20
"""Publications in a round, without readers and with."""


def measure(scale: float, rounds: int) -> list[Figures]:
    """Publish to one subscriber, to ten times as many, …; then with blocked readers."""
    most = max(10, round(_MOST * scale))
    numbers = sorted({1, *(most // share for share in (100, 10, 1) if most >= share)})
    with stage() as it:
        audience = _Audience(it.manager, it.server.url)
        script, readers = it.loop.run(audience.grow(numbers, rounds))
        peak = peak_mib(it.server.pid)
    return [
        Figures(
            case="subscribers",
            unit="µs/publication",
            ours=script[most],
            peers={"1 subscriber": script[1]},
            rss_mib=peak,
            cpu_seconds={"ours": script[most] / 1e6, "1 subscriber": script[1] / 1e6},
            note=(
                "the publishing script's own time in Redis, by subscribers of the "
                f"scope: {_listed(script)} µs; a ratio of 1 is flat; Redis's CPU for "
                "each reader blocked in XREADGROUP that an event wakes, again by "
                f"their number: {_listed(readers)} µs; memory is Redis's; "
                f"{redis_name()}"
            ),
            less_is_more=True,
        )
    ]


def _listed(figures: dict[int, float]) -> str:
    return ", ".join(f"{number}: {value:.1f}" for number, value in figures.items())


class _Audience:
    """Subscribers of the scope, each with one reader."""

    def __init__(self, manager: BackgroundFetchManager, url: str) -> None:
        self._manager, self._url = manager, url
        self._names: list[str] = []

    async def grow(
        self, numbers: Sequence[int], rounds: int
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return µs of the script, and of Redis for each reader, by subscribers."""
        [fetch] = await register(self._manager, 1)
        script: dict[int, float] = {}
        readers: dict[int, float] = {}
        for number in numbers:
            while len(self._names) < number:
                await self._join(f"s{len(self._names)}")
            own = [await self._script_time(fetch) for _ in range(rounds)]
            script[number] = median(own)
            readers[number] = await self._cost_of_readers(fetch, rounds)
        return script, readers

    async def _join(self, name: str) -> None:
        it = self._manager
        inbox = Inbox(it.connection, it.settings, SCOPE, name)
        await inbox.join()
        await inbox.aclose()
        self._names.append(name)

    async def _script_time(self, fetch: BackgroundFetchRegistration) -> float:
        ask = self._manager.connection.ask
        await ask("CONFIG", "RESETSTAT")
        for _ in range(_CLICKS):
            await fetch.click()
        stats: Any = await ask("INFO", "commandstats")
        return float(stats["cmdstat_evalsha"]["usec_per_call"])

    async def _cost_of_readers(
        self, fetch: BackgroundFetchRegistration, rounds: int
    ) -> float:
        clicks = max(rounds, _READ_CLICKS // len(self._names))
        stream, ask = ScopeKeys(SCOPE).events, self._manager.connection.ask
        seek = (ask("XGROUP", "SETID", stream, name, "$") for name in self._names)
        await asyncio.gather(*seek)
        async with AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(
                    Redis.from_url(self._url, socket_timeout=None)
                )
                for _ in self._names
            ]
            read = [await self._read(fetch, readers) for _ in range(clicks)]
        alone = [await self._read(fetch, []) for _ in range(clicks)]
        return max(0.0, median(read) - median(alone)) / len(self._names)

    async def _read(
        self, fetch: BackgroundFetchRegistration, readers: Sequence[Redis]
    ) -> float:
        """µs of CPU that Redis uses until an event has reached every reader."""
        stream = ScopeKeys(SCOPE).events
        reading: list[asyncio.Future[Any]] = []
        for name, reader in zip(self._names, readers, strict=False):
            blocked = reader.xreadgroup(name, "one", {stream: ">"}, block=0)
            reading.append(asyncio.ensure_future(blocked))
        while await self._blocked() < len(readers):  # noqa: ASYNC110 - Redis knows
            await asyncio.sleep(0.001)
        before = await self._used()
        await fetch.click()
        await asyncio.gather(*reading)
        return await self._used() - before

    async def _blocked(self) -> int:
        told: Any = await self._manager.connection.ask("INFO", "clients")
        return int(told["blocked_clients"])

    async def _used(self) -> float:
        told: Any = await self._manager.connection.ask("INFO", "cpu")
        return 1e6 * float(told["used_cpu_user"] + told["used_cpu_sys"])
