"""Every row of the list of faults is the subject of a test that says so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = range(20, 95)
"""Redirects and addresses, origins, workers, disks, Redis, messages and events."""
OTHERWISE = {
    23: "a public address that is met before the private one is dialled, and succeeds",
    48: "a 206 that is all of it succeeds, as in the specification (BF-RANGE-01)",
    56: "there are no mirrors: a redirect that leads elsewhere stands for them",
    60: "520 to 527 are bad at once: the ruling lists the statuses that are retried",
    61: "a renegotiation succeeds, since it proves to be of the same peer (RFC 5746)",
    65: "what a dashboard does with a body is tested with the dashboard",
    79: "a message may have 4 MiB; of two values for a key the last counts",
    80: "no worker has to refuse a serializer: a lane job is JSON whatever it has",
}
"""Rows that are tested but in part, or whose outcome is another by a ruling."""

NOT_YET = {85: "there is no dashboard"}
"""Rows that are tested with what they are about."""

_NAMED = re.compile(
    r"\bfaults?(?: rows?)? ([0-9]+(?:(?:,? and |, | to )[0-9]+)*)", re.I
)
_SPAN = re.compile("([0-9]+)(?: to ([0-9]+))?")


def rows_in(text: str) -> Iterator[int]:
    """The rows that a docstring names: ``Faults rows 20, 22 and 30 to 32``."""
    for named in _NAMED.findall(" ".join(text.split())):
        for first, last in _SPAN.findall(named):
            yield from range(int(first), int(last or first) + 1)


def named() -> set[int]:
    """The rows that any test names, in its own docstring and not its module's."""
    functions = (
        node
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )
    return {row for each in functions for row in rows_in(ast.get_docstring(each) or "")}


def test_rows_are_found_in_any_of_their_spellings() -> None:
    assert [*rows_in("R2, faults 33: directly")] == [33]
    assert [*rows_in("Faults rows 20, 22 and 30 to\n    32, R5")] == [
        20,
        22,
        30,
        31,
        32,
    ]
    assert [*rows_in("Faults row 46 and § 3; fault 55")] == [46, 55]
    assert [*rows_in("the default of 47")] == []


def test_every_row_is_named_by_a_test() -> None:
    assert sorted(set(ROWS) - set(NOT_YET) - named()) == []
    assert set(OTHERWISE) <= set(ROWS)
