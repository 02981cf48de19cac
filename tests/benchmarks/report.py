"""How the figures of a case are printed: an object a line, or a table for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figures:
    """What one case came to, in ``unit``: rates, or times if ``less_is_more``."""

    case: str
    unit: str
    ours: float
    peers: Mapping[str, float]
    rss_mib: float
    cpu_seconds: Mapping[str, float]
    """CPU seconds of one run: ours (all our processes) and each peer's."""
    note: str
    """What a reader has to know to compare: where, how durable, what was left out."""
    aim: Mapping[str, float] = field(default_factory=dict)
    """The ratios that the project means to reach."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """A rate that the machine sets, under the name of what reaches it; one at most."""
    less_is_more: bool = False

    @property
    def ratio(self) -> dict[str, float]:
        """How much faster we are than each peer."""
        power = -1 if self.less_is_more else 1
        return {
            name: round((self.ours / rate) ** power, 2)
            for name, rate in self.peers.items()
        }

    def document(self) -> dict[str, Any]:
        """The case as plain data."""
        document: dict[str, Any] = {
            "case": self.case,
            "unit": self.unit,
            "ours": round(self.ours, 1),
            "peers": {name: round(rate, 1) for name, rate in self.peers.items()},
            "ratio": self.ratio,
        }
        if self.aim:
            document["aim"] = dict(self.aim)
        for name, rate in self.limits.items():
            document["limit"] = {"name": name, "value": round(rate, 1)}
        return document | {
            "rss_mib": round(self.rss_mib),
            "cpu_seconds": {
                name: round(it, 3) for name, it in self.cpu_seconds.items()
            },
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """A case that this machine cannot show."""

    case: str
    why: str

    def document(self) -> dict[str, Any]:
        """The case as plain data."""
        return {"case": self.case, "skipped": self.why}


Outcome = Figures | Skipped


def print_json(console: Console, outcome: Outcome) -> None:
    """Print one case as one line."""
    console.out(json.dumps(outcome.document(), ensure_ascii=False), highlight=False)


def print_table(console: Console, cases: Sequence[Outcome]) -> None:
    """Print the cases as a table, and what has to be known about each."""
    table = Table("case", "unit", "who")
    for name in ("rate", "ours / theirs", "CPU s"):
        table.add_column(name, justify="right")
    for outcome in cases:
        if isinstance(outcome, Figures):
            for row in _rows(outcome):
                table.add_row(*row)
            table.add_section()
    console.print(table)
    for outcome in cases:
        said = f"{outcome.case}: {_remark(outcome)}"
        console.print(said, style="dim", highlight=False)


def _remark(outcome: Outcome) -> str:
    if isinstance(outcome, Skipped):
        return f"skipped: {outcome.why}"
    aims = ", ".join(f"{ratio} x {name}" for name, ratio in outcome.aim.items())
    remark = f"{outcome.note}; a worker's memory: {outcome.rss_mib:.0f} MiB at most"
    return f"{remark}; aim: {aims}" if aims else remark


def _rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    cpu = {name: f"{seconds:.2f}" for name, seconds in figures.cpu_seconds.items()}
    ours = f"{figures.ours:,.0f}"
    yield figures.case, figures.unit, "ours", ours, "", cpu["ours"]
    for name, rate in figures.peers.items():
        ratio = f"{figures.ratio[name]:.2f}"
        yield "", "", name, f"{rate:,.0f}", ratio, cpu[name]
    for name, rate in figures.limits.items():
        yield "", "", name, f"{rate:,.0f}", "", ""
