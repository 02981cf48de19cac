"""The screen of a person: sentences that scroll, and bars that move below them."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from broker.cli.output import printable
from broker.quantities import shown_size
from workers.demo.lines import Lines
from workers.demo.screen import HEADS, PLAIN, QUIET, Bar, Row, Screen, cells

NARROW = 116
"""Columns of a terminal below which the names of events are shortened."""
_LINK = re.compile(r"https?://[^\s'\"]+")


def screen_for(color: bool | None) -> Screen:
    """Choose by what stdout is; ``color`` False or NO_COLOR mean plain lines."""
    console = Console(highlight=False)
    moves = sys.stdout.isatty() and not console.is_dumb_terminal
    plain = color is False or bool(os.environ.get("NO_COLOR"))
    return Terminal(console) if moves and not plain else Lines()


class Terminal:
    """Sentences that scroll, and bars that stay below them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._bars: Sequence[Bar] = ()
        self._live = Live(
            console=console,
            get_renderable=self._drawn,
            refresh_per_second=12,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def tell(self, subject: str, what: str, why: str = "", style: str = PLAIN) -> None:
        """Say what happens, and why it is safe."""
        elapsed = time.monotonic() - self._began
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(justify="right", style=QUIET, width=6, no_wrap=True)
        grid.add_column(style=style, width=8, no_wrap=True)
        grid.add_column()
        sentence = Text(printable(what))
        if why:
            sentence.append(f"\n{printable(why)}", QUIET)
        for link in _LINK.finditer(sentence.plain):
            sentence.stylize(f"link {link[0]}", *link.span())
        grid.add_row(f"{elapsed:.1f} s", subject, sentence)
        self._console.print(grid)

    def show(self, bars: Sequence[Bar]) -> None:
        """Show how the fetches stand."""
        self._bars = bars

    def close(self, rows: Sequence[Row]) -> None:
        """Print the closing table."""
        shorten = _shorter if self._console.width < NARROW else _whole
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style=QUIET)
        for head in shorten(HEADS):
            right = head in ("bytes", "attempts")
            table.add_column(head, justify="right" if right else "left", no_wrap=True)
        for row in rows:
            for name, result, *rest in map(shorten, cells(row)):
                table.add_row(Text(name, PLAIN), Text(result, row.style), *rest)
        self._console.print(table)

    def note(self, *lines: str, style: str = "") -> None:
        """Print lines that are no step of the story."""
        for line in lines:
            self._console.print(Text(printable(line), style), soft_wrap=True)

    def _drawn(self) -> RenderableType:
        if not self._bars:
            return Group()
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.add_column(style=PLAIN, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right", width=20, no_wrap=True)
        grid.add_column(width=11, no_wrap=True)
        grid.add_column(style=QUIET, width=8, no_wrap=True)
        for bar in self._bars:
            size = shown_size(bar.done)
            if bar.active and bar.total:
                size = f"{size} of {shown_size(bar.total)}"
            state = Text(bar.state, bar.style)
            grid.add_row(bar.name, _shape(bar), size, state, bar.worker)
        return Padding(grid, (1, 1, 0, 1))


def _shape(bar: Bar) -> ProgressBar:
    return ProgressBar(
        total=(bar.total if bar.active else bar.done) or 1,
        completed=bar.done,
        pulse=bar.active and not bar.total,
        style=QUIET,
        complete_style=bar.style,
        finished_style=bar.style,
        pulse_style=bar.style,
    )


def _whole(line: Sequence[str]) -> Sequence[str]:
    return line


def _shorter(line: Sequence[str]) -> Sequence[str]:
    """A line of the table for 80 columns: without words that a reader can add."""
    name, result, *rest, event, by = line
    return (
        name,
        result.removeprefix("failure "),
        *rest,
        event.replace("backgroundfetch", "…"),
        by.replace("acknowledged", "acked").removesuffix(", attempt 1"),
    )
