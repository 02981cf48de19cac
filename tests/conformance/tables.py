"""The rows of the specification, and what stands beside them: deviations and gaps.

``rows.toml`` has every row, ``deviations.toml`` those that a ruling decides otherwise
or that make no sense without a browser, ``rulings.toml`` those rulings, ``gaps.toml``
the rows that nothing tests yet, with what is missing.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Row:
    """One behaviour that the specification, or what surrounds it, asks for."""

    id: str
    kind: str
    """N, W, E and H ask for something; C and K inform."""
    behaviour: str


@dataclass(frozen=True, slots=True)
class Deviation:
    """What is done instead of a row, and the name of the ruling that says so."""

    ruling: str
    why: str
    tested: bool = False
    """Whether tests that name the row hold what is done instead."""


@dataclass(frozen=True, slots=True)
class Tables:
    """All four tables."""

    rows: tuple[Row, ...]
    deviations: dict[str, Deviation]
    gaps: dict[str, str]
    rulings: dict[str, str]


def load() -> Tables:
    """Read the tables."""
    rows = _read("rows.toml")
    return Tables(
        tuple(Row(id, **columns) for id, columns in rows.items()),
        {id: Deviation(**what) for id, what in _read("deviations.toml").items()},
        _read("gaps.toml"),
        _read("rulings.toml"),
    )


def _read(name: str) -> dict[str, Any]:
    # A repeated id is an error of the parser.
    return tomllib.loads((HERE / name).read_text())
