"""``torture resume``: resumed files are whole and of one version, whatever happens.

Each round is one background fetch of a few files. Meanwhile the files are swapped, and
workers are killed, stopped and woken again, told to leave, or lose their connections
and the answers of Redis, which itself is killed and may forget its last writes. Then
each blob is compared with the versions that existed, and once more some rounds later.

It prints ``{"rounds": …, "violations": …, "seed": …, "faults": {…}}``, tells of each
violation on stderr, and exits 1 if there was one. The seed repeats every choice; the
machine decides how processes interleave, so repeat it with the same number of rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

import structlog

from broker.manager import connect
from broker.settings import Settings
from schemas.addresses import AddressPolicy
from tests.benchmarks.measure import find_program
from tests.torture.database import Database
from tests.torture.fleet import running
from tests.torture.origins import nginx_at
from tests.torture.relay import Relay
from tests.torture.rounds import SCOPE, Rounds, Site, Tally
from tests.torture.verdict import Judge
from workers.demo.origin import Origin

_AT_ONCE = 24
_BLOCK = 500
"""Rounds on one Redis, whose append-only file takes longer to load each time."""
_WORKERS = 6
_WORKER = {
    "BGFETCH_ALLOW_NETWORKS": "loopback",
    "BGFETCH_LEASE": "0.8",
    "BGFETCH_PROGRESS_INTERVAL": "0.04",
    "BGFETCH_CHECKPOINT_INTERVAL": "0.05",
    "BGFETCH_LANE_SIZE": "2",
    "BGFETCH_BACKOFF": "0.02",
    "BGFETCH_MAX_BACKOFF": "0.2",
    # The origins' faults must not use up the attempts: a result is always due.
    "BGFETCH_MAX_ATTEMPTS": "1000",
    "BGFETCH_STALL_TIMEOUT": "5",
    "BGFETCH_GRACE": "5",
}


def main(arguments: Sequence[str]) -> int:
    """Run the torture; return the exit code."""
    parser = argparse.ArgumentParser(prog="torture resume")
    parser.add_argument("--rounds", type=int, default=1000, help="1000 by default")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**9), help="repeats a torture"
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument(
        "--segments", type=int, default=1, help="streams of one file; 1 by default"
    )
    parser.add_argument("--keep", type=Path, help="directory for store, Redis and log")
    parser.add_argument("--json", action="store_true", help="tell nothing on the way")
    chosen = parser.parse_args(arguments)
    numbers = range(chosen.first, chosen.first + chosen.rounds)
    tally = Tally()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with (
        nullcontext(chosen.keep)
        if chosen.keep
        else tempfile.TemporaryDirectory(prefix="bgt", dir="/tmp") as directory
    ):
        place = Path(directory).absolute()
        place.mkdir(exist_ok=True)
        tell = _say(chosen.json)
        work = torture(
            place, chosen.seed, numbers, tally, tell, segments=chosen.segments
        )
        try:
            asyncio.run(work)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
    result = {
        "rounds": tally.rounds,
        "violations": len(tally.violations),
        "seed": chosen.seed,
        "faults": dict(sorted(tally.faults.items())),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if tally.violations or tally.rounds < chosen.rounds else 0


async def torture(
    directory: Path,
    seed: int,
    numbers: range,
    tally: Tally,
    tell: Callable[[str], None],
    *,
    workers: int = _WORKERS,
    segments: int = 1,
) -> None:
    """Run these rounds in ``directory``, and count into ``tally``."""
    choose = random.Random(seed)
    async with asyncio.TaskGroup() as tasks:
        ticker = tasks.create_task(_tick(tally, tell))
        for start in range(0, len(numbers), _BLOCK):
            block = numbers[start : start + _BLOCK]
            place = directory / str(block.start)
            place.mkdir()
            site_at = _site(place, choose, workers, tell, segments)
            async with site_at as site:
                await Rounds(site, seed, tally, tell).run(block, _AT_ONCE)
            tally.faults["answers lost"] += site.relay.lost
        ticker.cancel()


@asynccontextmanager
async def _site(
    directory: Path,
    choose: random.Random,
    workers: int,
    tell: Callable[[str], None],
    segments: int,
) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        database = Database(directory / "redis")
        stack.callback(database.close)
        relay = Relay(directory / "relay.sock", database.socket)
        await stack.enter_async_context(relay)
        program = find_program("nginx")
        nginx = None
        if program:
            nginx = stack.enter_context(nginx_at(program, directory / "nginx"))
        else:
            tell("no nginx here: the other origin alone (apt-get install nginx-light)")
        origin = await stack.enter_async_context(Origin())
        store = directory / "store"
        settings = Settings(
            redis_url=database.url,
            store=store,
            allow_networks=AddressPolicy.parse("loopback"),
        )
        manager = await stack.enter_async_context(
            connect(scope=SCOPE, settings=settings)
        )
        variables = {
            **_WORKER,
            "BGFETCH_REDIS_URL": relay.url,
            "BGFETCH_STORE": os.fspath(store),
            "BGFETCH_SEGMENTS": str(segments),
            "BGFETCH_SEGMENT_SIZE": "16KiB",
            # Segments take only slots that no other round wants.
            "BGFETCH_ORIGIN_CONNECTIONS": "32" if segments == 1 else "1024",
        }
        fleet = await stack.enter_async_context(
            running(workers, variables, choose, directory / "log")
        )
        judge = Judge(manager.reader, store)
        yield Site(manager, database, relay, fleet, origin, nginx, judge)


async def _tick(tally: Tally, tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(10)
        tell(f"{tally.rounds} rounds in {time.monotonic() - began:.0f} s")


def _say(quiet: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        if not quiet or line.startswith("violation"):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    return say
