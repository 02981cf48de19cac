"""What becomes of each row, given how the tests that claim it ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from tests.conformance.tables import Row, Tables


class Ending(StrEnum):
    """How a test ended, all of its parameters taken together."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """What is true of a row."""

    PASS = "pass"
    FAIL = "fail"
    DEVIATION = "deviation"
    UNTESTED = "untested"


@dataclass(frozen=True, slots=True)
class Judged:
    """A row with its verdict."""

    row: Row
    verdict: Verdict
    tests: tuple[str, ...]
    why: str


def judge(
    tables: Tables, claims: dict[str, list[str]], endings: dict[str, Ending] | None
) -> list[Judged]:
    """Give every row its verdict; without ``endings`` no test was run."""
    return [
        _judge(row, tables, tuple(claims.get(row.id, ())), endings)
        for row in tables.rows
    ]


def counts(judged: list[Judged]) -> dict[str, int]:
    """Count the rows of each verdict, those without any included."""
    found = Counter(each.verdict for each in judged)
    return {verdict: found[verdict] for verdict in Verdict}


def _judge(
    row: Row,
    tables: Tables,
    tests: tuple[str, ...],
    endings: dict[str, Ending] | None,
) -> Judged:
    deviation = tables.deviations.get(row.id)
    if endings is None:
        passed, why = False, "not run" if tests else ""
    else:
        # A test that never began, as in a file that cannot be imported, has failed.
        how = {test: endings.get(test, Ending.FAILED) for test in tests}
        failed = [test for test in tests if how[test] is Ending.FAILED]
        if failed:
            return Judged(row, Verdict.FAIL, tests, f"failed: {', '.join(failed)}")
        passed = Ending.PASSED in how.values()
        why = "skipped: an optional program is missing" if tests else ""
    if deviation is not None:
        why = f"{deviation.ruling}: {deviation.why}"
        return Judged(row, Verdict.DEVIATION, tests, why)
    if passed:
        return Judged(row, Verdict.PASS, tests, "")
    why = why or tables.gaps.get(row.id, "no test names it")
    return Judged(row, Verdict.UNTESTED, tests, why)
