"""``python3 run.py conformance``: the specification, row by row."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from tests.conformance.claims import claims
from tests.conformance.tables import Tables, load
from tests.conformance.verdicts import Ending, Judged, Verdict, counts, judge

TESTS = Path(__file__).parent.parent


class Recorder:
    """Hears from pytest how each test ended, all of its parameters together."""

    def __init__(self) -> None:
        self.endings: dict[str, Ending] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what one phase of one test came to; the worst stands."""
        test = report.nodeid.partition("[")[0]
        before = self.endings.get(test, Ending.SKIPPED)
        if report.failed or before is Ending.FAILED:
            self.endings[test] = Ending.FAILED
        elif report.when == "call" and report.passed:
            self.endings[test] = Ending.PASSED
        else:
            self.endings[test] = before


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a row failed."""
    options = _parser().parse_args(arguments)
    tables, claimed = load(), claims(TESTS)
    endings = None if options.no_run else _run(tables, claimed)
    judged = judge(tables, claimed, endings)
    sys.stdout.write(_as_json(judged) if options.json else _as_table(judged))
    return 1 if counts(judged)[Verdict.FAIL] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py conformance",
        description="Run the tests that name rows of the specification, and tell for "
        "each row whether it holds, fails, is ruled otherwise or is not tested. "
        "What pytest says goes to stderr. Exit code: 1 if a row failed.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--no-run", action="store_true", help="only list which test claims which row"
    )
    return parser


def _run(tables: Tables, claimed: dict[str, list[str]]) -> dict[str, Ending]:
    """Run each test that claims a row, once."""
    wanted = sorted({test for row in tables.rows for test in claimed.get(row.id, ())})
    recorder = Recorder()
    processes = ["-n", "auto", "--maxprocesses", "8"]
    options = ["-q", "-p", "no:cacheprovider", *processes]
    with redirect_stdout(sys.stderr):
        pytest.main([*options, *wanted], plugins=[recorder])
    return recorder.endings


def _as_json(judged: list[Judged]) -> str:
    rows = [
        {
            "id": each.row.id,
            "kind": each.row.kind,
            "behaviour": each.row.behaviour,
            "verdict": each.verdict,
            "test": ", ".join(each.tests),
            "why": each.why,
        }
        for each in judged
    ]
    return json.dumps({"rows": rows, "counts": counts(judged)}, indent=1) + "\n"


def _as_table(judged: list[Judged]) -> str:
    lines = [f"{'id':<12} {'verdict':<10} behaviour"]
    for each in judged:
        row = each.row
        lines.append(f"{row.id:<12} {each.verdict:<10} {row.behaviour} ({row.kind})")
        lines += [f"{'':<23} {test}" for test in each.tests]
        lines += [f"{'':<23} {each.why}"] if each.why else []
    found = ", ".join(f"{number} {name}" for name, number in counts(judged).items())
    return "\n".join(lines) + f"\n\n{len(judged)} rows: {found}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
