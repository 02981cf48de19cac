"""``torture crash``: a worker dies at every point, and the next one makes it good.

Each round is one background fetch of a few files, one of which breaks off once. Its
worker kills itself before or after the n-th call to Redis, disk or origin, from its
start to its leaving; another one ends what is left. Then every file is whole, and there
is exactly one completion event. ``--rounds`` takes some of the points, not all.

It prints ``{"rounds": …, "violations": …, "seed": …, "points": …}``, tells of each
violation on stderr, and exits 1 if there was one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import structlog

from broker.embedded import EmbeddedServer
from broker.keys import FetchKeys, ScopeKeys
from broker.manager import BackgroundFetchManager, connect
from broker.registration import BackgroundFetchRegistration
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from schemas.errors import BackgroundFetchError
from schemas.events import EventMessage
from tests.torture.fleet import Forge, forging
from workers.demo.origin import Origin

SCOPE = "crash"
_AT_ONCE = 6
_PATIENCE = 60.0
_POLL = 0.02
_WORKER = {
    "BGFETCH_ALLOW_NETWORKS": "loopback",
    "BGFETCH_LEASE": "0.8",
    "BGFETCH_PROGRESS_INTERVAL": "0.03",
    "BGFETCH_CHECKPOINT_INTERVAL": "0.04",
    "BGFETCH_BACKOFF": "0.02",
    "BGFETCH_GRACE": "5",
}
_SIZES = {"small": 4000, "broken": 250_000, "large": 700_000}
_RATE = 4_000_000.0  # bytes a second: there are reports and checkpoints on the way


@dataclass(slots=True)
class Tally:
    """What a torture came to."""

    points: int = 0
    """How many the first worker has passed, that was left alone."""
    rounds: int = 0
    died: int = 0
    """Rounds whose worker was still at work at its point."""
    violations: list[str] = field(default_factory=list)


class Rounds:
    """Rounds on databases of one server, several at once."""

    def __init__(
        self, directory: Path, url: str, forge: Forge, origin: Origin, tally: Tally
    ) -> None:
        self._directory, self._url = directory, url
        self._forge, self._origin = forge, origin
        self._tally = tally

    async def run(self, rounds: int | None, choose: random.Random) -> None:
        """Count the points of an undisturbed worker, then die at ``rounds`` of them."""
        told = self._directory / "points"
        await self._round(0, {"POINTS": str(told)}, "left alone")
        self._tally.points = int(told.read_text()) if told.exists() else 0
        points = range(self._tally.points)
        if rounds is not None and rounds < len(points):
            points = sorted(choose.sample(points, rounds))  # type: ignore[assignment]
        remaining = deque(points)
        async with asyncio.TaskGroup() as tasks:
            for slot in range(_AT_ONCE):
                tasks.create_task(self._slot(slot, remaining))

    async def _slot(self, slot: int, remaining: deque[int]) -> None:
        while remaining:
            point = remaining.popleft()
            variables = {"POINT": str(point), "POINTS": os.devnull}
            died = await self._round(slot, variables, f"point {point}")
            self._tally.died += died
            self._tally.rounds += 1

    async def _round(self, slot: int, extra: dict[str, str], name: str) -> bool:
        """Do one round in a database and a store of its own; True if a worker died."""
        store = self._directory / f"store-{slot}"
        settings = Settings(
            redis_url=f"{self._url}?db={slot}",
            store=store,
            allow_networks=AddressPolicy.parse("loopback"),
        )
        variables = {
            **_WORKER,
            "BGFETCH_REDIS_URL": settings.redis_url or "",
            "BGFETCH_STORE": str(store),
        }
        shutil.rmtree(store, ignore_errors=True)
        async with connect(scope=SCOPE, settings=settings) as manager:
            await manager.connection.ask("FLUSHDB")
            try:
                async with asyncio.timeout(_PATIENCE):
                    return await self._play(manager, variables, extra, name)
            except (TimeoutError, BackgroundFetchError) as error:
                self._violated(name, f"{type(error).__name__}: {error}")
                return True

    async def _play(
        self,
        manager: BackgroundFetchManager,
        variables: dict[str, str],
        extra: dict[str, str],
        name: str,
    ) -> bool:
        files = self._publish(name)
        first = await self._forge.start({**variables, **extra})
        fetch = await manager.fetch("x", list(files), hold=timedelta(hours=1))
        while not (code := await self._forge.ended(first)):
            await fetch.refresh()
            if fetch.result:
                os.kill(first, signal.SIGTERM)
                code = await self._forge.gone(first)
                break
            await asyncio.sleep(_POLL)
        if code not in ("0", str(-signal.SIGKILL)):
            self._violated(name, f"the worker ended by itself: {code}")
        await self._finish(fetch, variables)
        for violation in await self._judge(manager, fetch, files):
            self._violated(name, violation)
        return code != "0"

    def _publish(self, name: str) -> dict[str, bytes]:
        """Have files for one round: none of a round before answers for them."""
        bodies = {}
        for kind, size in _SIZES.items():
            path = f"/{name.replace(' ', '-')}/{kind}"
            body = random.Random(path).randbytes(size)
            cuts = [size // 2] if kind == "broken" else []
            self._origin.add(path, body, rate=_RATE, cut_after=cuts)
            bodies[self._origin.url(path)] = body
        return bodies

    async def _finish(
        self, fetch: BackgroundFetchRegistration, variables: dict[str, str]
    ) -> None:
        """Let a healthy worker do what is left."""
        await fetch.refresh()
        if fetch.result:
            return
        second = await self._forge.start(variables)
        try:
            async for _ in fetch.progress():
                pass
        finally:
            os.kill(second, signal.SIGKILL)
            await self._forge.gone(second)

    async def _judge(
        self,
        manager: BackgroundFetchManager,
        fetch: BackgroundFetchRegistration,
        files: dict[str, bytes],
    ) -> list[str]:
        found = []
        if (fetch.result, fetch.failure_reason) != ("success", ""):
            found.append(f"result: {fetch.result}, {fetch.failure_reason}")
        if fetch.downloaded != sum(_SIZES.values()):
            found.append(f"counts: {fetch.downloaded} bytes of {sum(_SIZES.values())}")
        keys = FetchKeys(SCOPE, fetch.uid)
        for index, (url, body) in enumerate(files.items()):
            record = await fetch.match(url)
            assert record is not None
            look = await manager.reader.look(keys, index)
            if look.state.digest != sha256(body).hexdigest():
                found.append(f"digest: {look.state.digest} of {url}")
            if await (await record.response_ready).read() != body:
                found.append(f"mixed or truncated: {url}")
        entries = await manager.connection.ask(
            "XRANGE", ScopeKeys(SCOPE).events, "-", "+"
        )
        types = [EventMessage.decode(row[b"message"]).type for _, row in entries]
        if types != ["backgroundfetchsuccess"]:
            found.append(f"events: {types}")
        return found

    def _violated(self, name: str, what: str) -> None:
        self._tally.violations.append(f"{name}: {what}")
        sys.stderr.write(f"violation at {name}: {what}\n")


async def torture(
    directory: Path, rounds: int | None, choose: random.Random, tally: Tally
) -> None:
    """Die at points, all of them if ``rounds`` is None, and count into ``tally``."""
    with EmbeddedServer.start(directory / "redis", die_with_parent=True) as server:
        async with forging(directory / "log") as forge, Origin() as origin:
            playing = Rounds(directory, server.url, forge, origin, tally)
            await playing.run(rounds, choose)


def main(arguments: list[str]) -> int:
    """Run the torture; return the exit code."""
    parser = argparse.ArgumentParser(prog="torture crash")
    parser.add_argument("--rounds", type=int, help="so many points; by default all")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--json", action="store_true", help="tell nothing on the way")
    chosen = parser.parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="bgt", dir="/tmp") as directory:
        choose = random.Random(chosen.seed)
        asyncio.run(torture(Path(directory), chosen.rounds, choose, tally))
    result = {
        "rounds": tally.rounds,
        "violations": len(tally.violations),
        "seed": chosen.seed,
        "points": tally.points,
        "died": tally.died,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if tally.violations or not tally.rounds else 0
