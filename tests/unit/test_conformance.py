"""The tables of the specification's rows, and how rows are claimed and judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.__main__ import Recorder, main
from tests.conformance.claims import claims, rows_in
from tests.conformance.tables import Deviation, Row, Tables, load
from tests.conformance.verdicts import Ending, Verdict, judge

TESTS = Path(__file__).parent.parent
TABLES = load()
ROW = Row("BF-GET-01", "N", "get gives the active fetch")
TEST = "tests/unit/test_get.py::test_it"

# Outside of the tests, which would claim these rows otherwise.
CLAIMED = "BF-RANGE-20"
NAMED = [
    ("BF-GET-01", ["GET-01"]),
    ("BF-GET-01, -02, BF-SEC-03.", ["GET-01", "GET-02", "SEC-03"]),
    ("BF-GET-01 to -03 and -07", ["GET-01", "GET-02", "GET-03", "GET-07"]),
    ("BF-GET-01,\n    -04", ["GET-01", "GET-04"]),
    ("BF-GET, GET-01, bf-get-01, 3-04", []),
]
MODULE = '''"""The module: BF-SEC-09."""
@mark("BF-GET-03")
async def test_bf_get_01_here():
    """BF-GET-02."""
    assert why("BF-GET-01: because")
def helper():
    """BF-GET-05."""
'''


def judged(
    claimed: bool = True,
    ending: Ending | None = Ending.PASSED,
    deviation: Deviation | None = None,
) -> tuple[Verdict, str]:
    tables = Tables((ROW,), {ROW.id: deviation} if deviation else {}, {}, {})
    claimed_by = {ROW.id: [TEST]} if claimed else {}
    [row] = judge(tables, claimed_by, {TEST: ending} if ending else {})
    return row.verdict, row.why


def test_there_are_253_rows_and_every_kind_is_known() -> None:
    assert len({row.id for row in TABLES.rows}) == len(TABLES.rows) == 253
    assert {row.kind for row in TABLES.rows} == set("NWEHCK")


def test_no_test_claims_a_row_that_does_not_exist() -> None:
    known = {row.id for row in TABLES.rows}

    assert {id: by for id, by in claims(TESTS).items() if id not in known} == {}


def test_deviations_and_gaps_are_of_rows_that_exist() -> None:
    known = {row.id for row in TABLES.rows}

    assert set(TABLES.deviations) - known == set()
    assert set(TABLES.gaps) - known == set()
    assert set(TABLES.gaps) & set(TABLES.deviations) == set()


def test_each_deviation_names_its_ruling_and_each_ruling_is_named() -> None:
    named = {about.ruling for about in TABLES.deviations.values()}

    assert named == set(TABLES.rulings)
    assert all(text.strip() for text in TABLES.rulings.values())


def test_a_deviation_says_whether_tests_hold_what_is_done_instead() -> None:
    claimed = set(claims(TESTS))
    tested = {id for id, about in TABLES.deviations.items() if about.tested}

    assert tested == set(TABLES.deviations) & claimed, "set tested in deviations.toml"


def test_a_row_has_tests_a_ruling_or_what_is_missing() -> None:
    claimed = set(claims(TESTS))
    known = {row.id for row in TABLES.rows}

    assert set(TABLES.gaps) & claimed == set(), "take these out of gaps.toml"
    assert known - claimed - set(TABLES.deviations) - set(TABLES.gaps) == set()


@pytest.mark.parametrize(("text", "rows"), NAMED)
def test_lists_and_spans_name_each_of_their_rows(text: str, rows: list[str]) -> None:
    assert list(rows_in(text)) == [f"BF-{row}" for row in rows]


def test_a_test_claims_what_its_name_its_docstring_and_its_strings_name(
    tmp_path: Path,
) -> None:
    file = tmp_path / "tests" / "unit" / "test_a.py"
    file.parent.mkdir(parents=True)
    file.write_text(MODULE)

    found = claims(tmp_path / "tests")

    test = "tests/unit/test_a.py::test_bf_get_01_here"
    assert found == {f"BF-GET-0{n}": [test] for n in (1, 2, 3)}


def test_a_row_holds_if_its_tests_pass() -> None:
    ruled = Deviation("resume", "otherwise", tested=True)

    assert judged() == (Verdict.PASS, "")
    assert judged(ending=Ending.FAILED) == (Verdict.FAIL, f"failed: {TEST}")
    assert judged(ending=None)[0] is Verdict.FAIL
    assert judged(ending=Ending.SKIPPED)[0] is Verdict.UNTESTED
    assert judged(claimed=False)[0] is Verdict.UNTESTED
    assert judged(deviation=ruled) == (
        Verdict.DEVIATION,
        "resume: otherwise",
    )
    assert judged(deviation=ruled, ending=Ending.FAILED)[0] is Verdict.FAIL


def test_the_worst_end_of_a_test_with_parameters_stands() -> None:
    recorder = Recorder()

    for name, when, outcome in (
        ("a", "setup", "passed"),
        ("a[1]", "call", "failed"),
        ("a[2]", "call", "passed"),
        ("b", "call", "passed"),
        ("b", "teardown", "failed"),
        ("c[1]", "setup", "skipped"),
        ("c[2]", "call", "passed"),
        ("d", "setup", "skipped"),
    ):
        recorder.pytest_runtest_logreport(
            pytest.TestReport(name, ("", 0, ""), {}, outcome, None, when)  # type: ignore[arg-type]
        )

    assert recorder.endings == {
        "a": Ending.FAILED,
        "b": Ending.FAILED,
        "c": Ending.PASSED,
        "d": Ending.SKIPPED,
    }


def test_without_a_run_every_claimed_row_is_listed_with_its_tests(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--no-run", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    of_row = {row["id"]: row for row in told["rows"]}
    assert set(told["counts"]) == {"pass", "fail", "deviation", "untested"}
    assert sum(told["counts"].values()) == len(of_row) == 253
    assert of_row[CLAIMED]["verdict"] == "untested"
    assert "test_bf_range_20" in of_row[CLAIMED]["test"]
    assert of_row[CLAIMED]["why"] == "not run"


def test_the_table_has_a_line_for_every_row_and_the_counts_at_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--no-run"]) == 0

    told = capsys.readouterr().out.splitlines()
    ids = [line.split(" ")[0] for line in told if line.startswith("BF-")]
    assert ids == [row.id for row in TABLES.rows]
    assert told[-1].startswith("253 rows: 0 pass, 0 fail, ")
