"""``bench events``: from a publication to its handler, beside queues and bare Redis."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from rich.console import Console

from tests.benchmarks import audience, handling, reaction, report, waiting
from tests.benchmarks.measure import BenchmarkError

QUICK = 0.1
ROUNDS, QUICK_ROUNDS = 5, 3
CASES: dict[str, Callable[[float, int], Sequence[report.Outcome]]] = {
    "publish-handle-ack": handling.measure,
    "settle-to-handler": reaction.measure,
    "waiting-handlers": waiting.measure,
    "subscribers": audience.measure,
}
"""How each case is measured: the share of the work to do, and how many times."""


def main(arguments: Sequence[str]) -> int:
    """Run the cases and print their figures; return the exit code."""
    options = _parse(arguments)
    console = Console(soft_wrap=True)
    done: list[report.Outcome] = []
    for name in [options.case] if options.case else CASES:
        try:
            outcomes = CASES[name](options.scale, options.rounds)
        except BenchmarkError as error:
            sys.stderr.write(f"bench events: {name}: {error}\n")
            return 1
        done += outcomes
        if options.json:
            for outcome in outcomes:
                report.print_json(console, outcome)
    if not options.json:
        report.print_table(console, done)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench events", description=__doc__)
    parser.add_argument("--case", choices=list(CASES), help="this case alone")
    parser.add_argument("--json", action="store_true", help="one object for each case")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--rounds", type=int, help="runs of each, beside a warm-up")
    parser.add_argument("--scale", type=float, help="that share of the work")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.scale = options.scale or (QUICK if options.quick else 1.0)
    return options
