"""``bench listing``: a page of fetches, of very many beside a few."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

from rich.console import Console

from broker.listing import Listing
from schemas.queries import FetchFilter, ListedState
from tests.benchmarks import report
from tests.benchmarks.forged import forge
from tests.benchmarks.measure import cpu_seconds, peak_mib
from tests.benchmarks.report import Figures
from tests.benchmarks.stage import Stage, redis_name, stage

_MANY, _FEW = 100_000, 1_000
_PAGES = 20
_NAMES = {"ours": "many", "1000 fetches": "few"}


def main(arguments: Sequence[str]) -> int:
    """Run the case and print its figures; return the exit code."""
    parser = argparse.ArgumentParser("bench listing", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args(arguments)
    figures = measure(rounds=3 if options.quick else 15)
    console = Console(soft_wrap=True)
    if options.json:
        report.print_json(console, figures)
    else:
        report.print_table(console, [figures])
    return 0


def measure(rounds: int) -> Figures:
    """Read pages of both in turn."""
    with stage() as it:
        for scope, count in (("many", _MANY), ("few", _FEW)):
            it.loop.run(forge(it.manager.connection, scope, count))
        walls: dict[str, list[float]] = {name: [] for name in _NAMES}
        used = dict.fromkeys(_NAMES, 0.0)
        for round_ in range(rounds + 1):  # the first is a warm-up
            for name, scope in _NAMES.items():
                wall, cpu = _pages(it, scope)
                if round_:
                    walls[name].append(wall)
                    used[name] += cpu
    ours, few = (statistics.median(walls[name]) for name in _NAMES)
    return Figures(
        case="list-page",
        unit="µs/page",
        ours=ours * 1e6,
        peers={"1000 fetches": few * 1e6},
        aim={"1000 fetches": 0.67},
        rss_mib=peak_mib(os.getpid()),
        cpu_seconds=used,
        note=(
            f"a page of 50 failed fetches, its successor, a search with hits and the "
            f"counts: {_MANY} fetches beside {_FEW}; a ratio of 1 is flat; "
            f"{redis_name()}"
        ),
        less_is_more=True,
    )


def _pages(it: Stage, scope: str) -> tuple[float, float]:
    """Seconds for one page, and CPU seconds of all."""
    listing = Listing(it.manager.connection, it.manager.settings)
    search = FetchFilter.parse("id:forged-*9 host:cdn.example")

    async def read() -> None:
        for _ in range(_PAGES):
            page = await listing.page(scope=scope, state=ListedState.FAILURE)
            await listing.page(
                scope=scope, state=ListedState.FAILURE, cursor=page.cursor
            )
            await listing.page(scope=scope, filter=search)
            await listing.counts(scope)

    start, used = time.perf_counter(), _cpu(it)
    it.loop.run(read())
    return (time.perf_counter() - start) / (3 * _PAGES), _cpu(it) - used


def _cpu(it: Stage) -> float:
    return time.process_time() + cpu_seconds(it.server.pid)
