"""``torture events``: no event is lost, whatever happens to those who handle it.

Several processes publish clicks on background fetches and their ends, which two
subscribers of several processes handle. Meanwhile consumers are killed, stopped, parted
from Redis and told to leave, connections break, answers are lost, former holders
acknowledge, and Redis is killed and starts again from its append-only file; it runs
with ``appendfsync always``, without which its newest writes may be lost, acknowledged
or not. Then the history is judged as Jepsen's checker of queues does (``checker.py``).

With ``--lose-tail`` Redis does lose up to a second of its newest writes, and whole
consumer groups. What was only there may be gone; all that it still has must hold.

It prints ``{"rounds": …, "violations": …, "seed": …, …}`` with what happened, tells of
each violation on stderr, and exits 1 if there was one. A round is up to 10,000 events
on a Redis of its own, judged and deleted before the next. The seed repeats each choice,
but not how processes interleave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

import structlog

from broker.tasks import cancel_all
from tests.torture.checker import Story, Verdict, check
from tests.torture.crew import LEASE, SUBSCRIBERS, Crew, crew
from tests.torture.database import Database
from tests.torture.history import History, Progress, read
from tests.torture.log import entries
from tests.torture.mischief import FAULTS, Kind, plan
from tests.torture.publisher import SCOPE
from tests.torture.watch import Watch

_ROUND = 10_000
_QUICK = 300
_EVENTS_PER_FAULT = 200


@dataclass(slots=True)
class Tally:
    """What came of all rounds so far."""

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)


@dataclass(frozen=True, slots=True)
class Torture:
    """What is the same for all rounds."""

    seed: int
    kinds: tuple[Kind, ...]
    """What happens."""
    lua: Path | None
    """Where processes have their scripts from, if not from the broker."""
    keep: bool
    """Whether what was written down outlives its round."""


class Round:
    """So many events on a Redis of their own."""

    def __init__(
        self, directory: Path, torture: Torture, number: int, events: int
    ) -> None:
        self._directory, self._torture = directory, torture
        self._number, self._events = number, events

    async def run(self, tally: Tally) -> None:
        """Play it, then judge it."""
        histories = self._directory / "histories"
        histories.mkdir(parents=True)
        variables = {
            "HISTORY": os.fspath(histories),
            "SEED": f"{self._torture.seed}/{self._number}",
            "BGFETCH_STORE": os.fspath(self._directory / "store"),
            **({"LUA": os.fspath(self._torture.lua)} if self._torture.lua else {}),
        }
        database = Database(self._directory / "redis", fsync="always")
        history = History(histories / "0.history")
        watch = Watch(database.url, history, Progress(histories))
        watching = asyncio.create_task(watch.run())
        try:
            async with crew(
                self._directory, database, history, variables, watch.holder
            ) as all:
                stuck = await self._play(all, watch, database)
                readable = await watch.readable()
                await all.leave()
            log = list(entries(database.log, SCOPE))
            lost = [entry for tail in database.lost for entry in entries(tail, SCOPE)]
        finally:
            await cancel_all([watching])
            await watch.aclose()
            database.close()
        lines = list(read(histories))
        story = Story(lines, log, SUBSCRIBERS, readable, LEASE, lost)
        check(story, tally.verdict)
        tally.verdict.violations += [*all.complaints, *stuck]
        tally.faults.update(it.words[0] for it in lines if it.what == "fault")
        tally.rounds += 1

    async def _play(self, all: Crew, watch: Watch, database: Database) -> list[str]:
        """Let everything happen; tell if it came to no end."""
        await all.consume()
        await watch.joined()
        database.keep()
        await all.publish(self._events)
        await all.be_late()
        kinds = self._torture.kinds
        count = max(len(kinds), self._events // _EVENTS_PER_FAULT)
        steps = deque(plan(self._torture.seed, self._number, count, kinds))
        owed = self._events * len(SUBSCRIBERS)
        while await watch.moves():
            drained = not await all.is_publishing() and await watch.drained()
            if steps and (drained or watch.handled >= steps[0].share * owed):
                await all.take(steps.popleft(), watch.begun)
            elif drained and not all.busy:
                return []
        return [f"stuck: {watch.groups}"]


async def play(
    directory: Path,
    torture: Torture,
    sizes: Sequence[int],
    tally: Tally,
    tell: Callable[[str], None],
) -> None:
    """Run a round of each size, and count into ``tally``."""
    began = time.monotonic()
    for number, events in enumerate(sizes):
        before = len(tally.verdict.violations)
        place = directory / str(number)
        await Round(place, torture, number, events).run(tally)
        for violation in tally.verdict.violations[before:]:
            tell(f"violation: round {number}: {violation}")
        passed = time.monotonic() - began
        tell(f"{tally.verdict.published} of {sum(sizes)} events in {passed:.0f} s")
        if not torture.keep:
            await asyncio.to_thread(rmtree, place)


def main(arguments: Sequence[str]) -> int:
    """Run the torture; return the exit code."""
    chosen = _parser().parse_args(arguments)
    torture = Torture(
        chosen.seed,
        tuple(Kind) if chosen.lose_tail else FAULTS,
        chosen.lua and chosen.lua.absolute(),
        chosen.keep is not None,
    )
    events = _QUICK if chosen.quick else chosen.events or _ROUND * chosen.rounds
    whole, rest = divmod(events, _ROUND)
    sizes = [_ROUND] * whole + [rest] * bool(rest)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    tally = Tally()
    with (
        nullcontext(chosen.keep)
        if chosen.keep
        else tempfile.TemporaryDirectory(prefix="bgt", dir="/tmp") as directory
    ):
        place = Path(directory).absolute()
        tell = _say(chosen.json)
        try:
            asyncio.run(play(place, torture, sizes, tally, tell))
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
    sys.stdout.write(json.dumps(_result(tally, chosen.seed)) + "\n")
    return 1 if tally.verdict.violations or tally.rounds < len(sizes) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torture events")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--rounds", type=_positive, default=1, help="of 10,000 events")
    size.add_argument("--events", type=_positive, help="in as few rounds as they need")
    size.add_argument("--quick", action="store_true", help=f"{_QUICK} events")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**9), help="repeats a torture"
    )
    parser.add_argument(
        "--lose-tail",
        action="store_true",
        help="let Redis lose its newest writes, and consumer groups, too",
    )
    parser.add_argument(
        "--lua",
        type=Path,
        help="take the scripts from this folder: a broken one must be found out",
    )
    parser.add_argument("--keep", type=Path, help="directory for histories and logs")
    parser.add_argument("--json", action="store_true", help="tell nothing on the way")
    return parser


def _result(tally: Tally, seed: int) -> dict[str, object]:
    verdict = tally.verdict
    return {
        "rounds": tally.rounds,
        "violations": len(verdict.violations),
        "seed": seed,
        "published": verdict.published,
        "unanswered": verdict.unanswered,
        "lost": verdict.lost,
        "handled": verdict.handled,
        "extended": verdict.extended,
        "duplicates": dict(sorted(verdict.duplicates.items())),
        "faults": dict(sorted(tally.faults.items())),
    }


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _say(quiet: bool) -> Callable[[str], None]:
    def say(line: str) -> None:
        if not quiet or line.startswith("violation"):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    return say
