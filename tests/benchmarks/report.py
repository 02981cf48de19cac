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
    """What one case came to; rates are in ``unit``, more is faster."""

    case: str
    unit: str
    ours: float
    peers: Mapping[str, float]
    rss_mib: float
    cpu_seconds: Mapping[str, float]
    """CPU seconds of one run: ours (all our processes) and each peer's."""
    note: str
    """What a reader has to know to compare: where, how durable, what was left out."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """A rate that the machine sets, under the name of what reaches it; one at most."""

    @property
    def ratio(self) -> dict[str, float]:
        """How much faster we are than each peer."""
        return {name: round(self.ours / rate, 2) for name, rate in self.peers.items()}

    def document(self) -> dict[str, Any]:
        """The case as plain data."""
        document: dict[str, Any] = {
            "case": self.case,
            "unit": self.unit,
            "ours": round(self.ours, 1),
            "peers": {name: round(rate, 1) for name, rate in self.peers.items()},
            "ratio": self.ratio,
        }
        for name, rate in self.limits.items():
            document["limit"] = {"name": name, "value": round(rate, 1)}
        return document | {
            "rss_mib": round(self.rss_mib),
            "cpu_seconds": {
                name: round(it, 3) for name, it in self.cpu_seconds.items()
            },
            "note": self.note,
        }


def print_json(console: Console, figures: Figures) -> None:
    """Print one case as one line."""
    console.out(json.dumps(figures.document(), ensure_ascii=False), highlight=False)


def print_table(console: Console, cases: Sequence[Figures]) -> None:
    """Print the cases as a table, and what has to be known about each."""
    table = Table("case", "unit", "who")
    for name in ("rate", "ours / theirs", "CPU s"):
        table.add_column(name, justify="right")
    for figures in cases:
        for row in _rows(figures):
            table.add_row(*row)
        table.add_section()
    console.print(table)
    for figures in cases:
        console.print(f"{figures.case}: {figures.note}", style="dim", highlight=False)


def _rows(figures: Figures) -> Iterator[tuple[str, ...]]:
    cpu = {name: f"{seconds:.2f}" for name, seconds in figures.cpu_seconds.items()}
    ours = f"{figures.ours:,.0f}"
    yield figures.case, figures.unit, "ours", ours, "", cpu["ours"]
    for name, rate in figures.peers.items():
        ratio = f"{figures.ratio[name]:.2f}"
        yield "", "", name, f"{rate:,.0f}", ratio, cpu[name]
    for name, rate in figures.limits.items():
        yield "", "", name, f"{rate:,.0f}", "", ""
