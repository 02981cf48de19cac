"""What a person or a script reads: data on stdout, talk on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.quantities import shown_size

if TYPE_CHECKING:
    from rich.console import Console

    from schemas.fetches import FetchState


def say(line: str) -> None:
    """Tell a person something, on stderr."""
    sys.stderr.write(f"bgfetch: {printable(line)}\n")
    sys.stderr.flush()


def put(line: str) -> None:
    """Print one line of data."""
    sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def put_json(value: object) -> None:
    """Print one JSON value on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    """``text`` without what could command a terminal: titles come from anywhere."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in text)


def console(*, stderr: bool = False) -> Console:
    """A terminal, or what stands in for one; honours NO_COLOR and FORCE_COLOR."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def is_terminal() -> bool:
    """Whether data goes to a person; FORCE_COLOR says so too, as for rich."""
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table for a terminal, else lines of tab-separated fields."""
    if not is_terminal():
        for row in rows:
            put("\t".join(printable(field).replace("\t", "?") for field in row))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(field)) for field in row))
    console().print(grid)


def outcome(state: FetchState) -> str:
    """How a fetch stands, in a word of the specification: its reason if it failed."""
    standing = "waits for permission" if state.prompt else "paused"
    return str(
        state.failure_reason or state.result or (standing if state.paused else "active")
    )


def amount(done: int, total: int) -> str:
    """Bytes that are there, and of how many where that is known."""
    return f"{shown_size(done)} of {shown_size(total)}" if total else shown_size(done)
