"""Where the traces differ, and which entry of the tables excuses it.

``differences.toml`` has two tables: where this project, and where Chromium, does
otherwise than the specification. An entry names the row, and how the fact shows: where
in the traces (``*`` for any characters), and both values. Why Chromium differs it tells
itself; why this project does, the deviation of the row tells.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import Any

from tests.conformance.tables import load as load_rows
from tests.oracle.scenarios import HERE

TABLES = ("ours-against-the-specification", "chromium-against-the-specification")
NOTHING = "(nothing)"
"""Stands where the other side has a value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs."""

    where: str
    chromium: Any
    ours: Any


@dataclass(frozen=True, slots=True)
class Excuse:
    """One entry of a table."""

    table: str
    row: str
    where: tuple[str, ...]
    chromium: Any
    ours: Any
    why: str

    def covers(self, difference: Difference, pattern: str) -> bool:
        """Whether the entry excuses the difference, by one of its patterns."""
        values = (difference.chromium, difference.ours)
        return fnmatchcase(difference.where, pattern) and values == (
            self.chromium,
            self.ours,
        )


def excuses() -> list[Excuse]:
    """Read both tables; each place in which a fact shows is an excuse of its own."""
    tables = tomllib.loads((HERE / "differences.toml").read_text())
    assert set(tables) == set(TABLES)
    deviations = load_rows().deviations
    found = []
    for table, entries in tables.items():
        for entry in entries:
            row, ours = entry["row"], table == TABLES[0]
            assert ("why" in entry) is not ours, f"{row}: one place says why"
            why = deviations[row].why if ours else entry["why"]
            found += [
                Excuse(table, row, tuple(show.pop("where")), **show, why=why)
                for show in entry["shows"]
            ]
    return found


def differences(where: str, chromium: Any, ours: Any) -> list[Difference]:
    """Compare two traces value by value; each has its place, as ``abort/event/type``.

    Where one call resolved and the other was rejected, that alone is the difference.
    """
    if chromium == ours:
        return []
    if isinstance(chromium, dict) and isinstance(ours, dict):
        if {*chromium, *ours} == {"resolved", "rejected"}:
            return [Difference(where, _short(chromium), _short(ours))]
        parts = [
            (name, chromium.get(name, NOTHING), ours.get(name, NOTHING))
            for name in {**chromium, **ours}
        ]
    elif isinstance(chromium, list) and isinstance(ours, list):
        pairs = zip_longest(chromium, ours, fillvalue=NOTHING)
        parts = [(str(index), *pair) for index, pair in enumerate(pairs)]
    else:
        return [Difference(where, _written(chromium), _written(ours))]
    return [
        each
        for name, left, right in parts
        for each in differences(f"{where}/{name}", left, right)
    ]


def unexplained(found: Iterable[Difference], known: list[Excuse]) -> list[Difference]:
    """Return the differences that no entry excuses."""
    return [
        difference
        for difference in found
        if not any(
            each.covers(difference, pattern) for each in known for pattern in each.where
        )
    ]


def idle(scenario: str, found: list[Difference], known: list[Excuse]) -> list[str]:
    """Return the patterns about this scenario that excuse nothing."""
    return [
        f"{each.table}: {each.row}: {pattern}"
        for each in known
        for pattern in each.where
        if pattern.startswith(f"{scenario}/")
        and not any(each.covers(difference, pattern) for difference in found)
    ]


def _short(outcome: dict[str, Any]) -> str:
    return "resolved" if "resolved" in outcome else f"rejected: {outcome['rejected']}"


def _written(value: Any) -> Any:
    """TOML has no null."""
    return "null" if value is None else value
