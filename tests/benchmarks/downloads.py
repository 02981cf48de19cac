"""``bench downloads``: files from nginx on loopback to disk, beside aria2 and curl."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from tests.benchmarks import beside, fetches, report, scaling, streams
from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.measure import BenchmarkError

QUICK = 0.1
ROUNDS, QUICK_ROUNDS = 5, 3
Measure = Callable[[Case, int], report.Outcome]
SPECIAL: dict[str, Measure] = {
    "tiny-fetches": fetches.measure,
    "flat": scaling.flat,
    "two-workers": scaling.two_workers,
    "segments": streams.measure,
    "segments-unlimited": streams.measure,
}
"""How cases are measured that are not side by side with download programs."""


def main(arguments: Sequence[str]) -> int:
    """Run the cases and print their figures; return the exit code."""
    options = _parse(arguments)
    console = Console(soft_wrap=True)
    done = []
    for case in CASES:
        if options.case in (None, case.name):
            measure = SPECIAL.get(case.name, beside.measure)
            try:
                outcome = measure(case.scaled(options.scale), options.rounds)
            except BenchmarkError as error:
                sys.stderr.write(f"bench downloads: {case.name}: {error}\n")
                return 1
            done.append(outcome)
            if options.json:
                report.print_json(console, outcome)
    if not options.json:
        report.print_table(console, done)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench downloads", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--case", choices=names, help="this case alone")
    parser.add_argument("--json", action="store_true", help="one object for each case")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--rounds", type=int, help="runs of each, beside a warm-up")
    parser.add_argument("--scale", type=float, help="that share of the work")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.scale = options.scale or (QUICK if options.quick else 1.0)
    return options
