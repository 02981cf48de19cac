"""``torture api``: random calls of the API, step beside step with its specification.

Each round is one scope on an empty Redis, to which some tens of things happen: calls of
producers, lanes and subscribers, crashes, time that passes, answers that are lost and
asked for again. After each step all that can be seen is compared with a model of the
specification; in the end everything is forgotten, and nothing may be left in Redis.

It prints ``{"rounds": …, "violations": …, "seed": …, "steps": …}``, tells each
violation on stderr as the shortest program that shows it, and exits 1 if there was one.
The seed repeats a torture.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import secrets
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from broker.embedded import EmbeddedServer
from tests.model.machine import ApiMachine

STEPS = 50
"""What happens in one round, at most."""
_BLOCK = 100
"""Rounds of one search: Hypothesis remembers all of it, to try nothing twice."""


def main(arguments: Sequence[str]) -> int:
    """Run the torture; return the exit code."""
    parser = argparse.ArgumentParser(prog="torture api")
    parser.add_argument("--rounds", type=int, default=1000, help="1000 by default")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10**9), help="repeats a torture"
    )
    parser.add_argument("--json", action="store_true", help="tell nothing on the way")
    chosen = parser.parse_args(arguments)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    with (
        tempfile.TemporaryDirectory(prefix="bgt", dir="/tmp") as directory,
        EmbeddedServer.start(Path(directory), die_with_parent=True) as server,
    ):
        ApiMachine.url = server.url
        violations = torture(chosen.rounds, chosen.seed, quiet=chosen.json)
    result = {
        "rounds": ApiMachine.rounds,
        "violations": violations,
        "seed": chosen.seed,
        "steps": ApiMachine.steps,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if violations else 0


def torture(rounds: int, number: int, *, quiet: bool) -> int:
    """Play so many rounds; return in how many blocks of them something was wrong."""
    choose, violations = random.Random(number), 0
    for start in range(0, rounds, _BLOCK):
        block = min(_BLOCK, rounds - start)
        try:
            play(block, choose.getrandbits(32))
        except Exception as error:  # counted, and told in full
            violations += 1
            sys.stderr.write("violation: ")
            traceback.print_exception(error)
        if not quiet:
            told = f"{start + block} rounds, {ApiMachine.steps} steps"
            sys.stderr.write(f"{told}, {violations} violations\n")
    return violations


def play(rounds: int, number: int) -> None:
    """Play so many rounds; raise what was wrong in the shortest that went wrong."""
    run_state_machine_as_test(
        seed(number)(ApiMachine),
        settings=settings(
            max_examples=rounds,
            stateful_step_count=STEPS,
            phases=[Phase.generate, Phase.shrink],
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
