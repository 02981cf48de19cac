"""The screen of a log, a pipe, a reader without colours."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from broker.cli.output import printable
from workers.demo.screen import HEADS, PLAIN, Bar, Row, cells


class Lines:
    """One plain line a step."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open."""

    def tell(self, subject: str, what: str, why: str = "", style: str = PLAIN) -> None:
        """Say what happens, and why it is safe."""
        elapsed = time.monotonic() - self._began
        self.note(f"{elapsed:5.1f} s  {subject:<8}  {what} {why}")

    def show(self, bars: Sequence[Bar]) -> None:
        """Show nothing: each step that matters is told."""

    def close(self, rows: Sequence[Row]) -> None:
        """Print the closing table."""
        lines = [HEADS, *(line for row in rows for line in cells(row))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        self.note("")
        for line in lines:
            fields = zip(line, widths, strict=True)
            self.note("  ".join(field.ljust(width) for field, width in fields))
        self.note("")

    def note(self, *lines: str, style: str = "") -> None:
        """Print lines that are no step of the story."""
        sys.stdout.write("".join(f"{printable(line).rstrip()}\n" for line in lines))
        sys.stdout.flush()
