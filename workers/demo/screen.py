"""What a person sees: sentences, bars under them, a closing table.

``terminal.Terminal`` shows them where things can move; ``lines.Lines`` writes one plain
line a step, which a log can keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from broker.quantities import shown_size

# Colours that can be read on dark and on light ground.
GOOD, BAD, BUSY, PLAIN, QUIET = "green", "red", "cyan", "bold", "dim"


@dataclass(frozen=True, slots=True)
class Bar:
    """One fetch under way, or just ended."""

    name: str
    done: int
    total: int
    """0 means unknown."""
    state: str
    style: str
    active: bool
    worker: str


@dataclass(frozen=True, slots=True)
class Row:
    """One fetch in the closing table."""

    name: str
    result: str
    style: str
    files: str
    size: int
    attempts: int
    sha256: str
    events: tuple[tuple[str, str], ...]
    """Each event, and who acknowledged it."""


HEADS = (
    "fetch", "result", "files", "bytes", "attempts", "sha256", "event",
    "acknowledged by",
)  # fmt: skip


def cells(row: Row) -> list[tuple[str, ...]]:
    """The lines of one row: the first has everything, others an event each."""
    first = (
        row.name,
        row.result,
        row.files,
        shown_size(row.size),
        str(row.attempts),
        row.sha256,
    )
    blank = ("",) * len(first)
    return [
        (*(blank if index else first), event, by)
        for index, (event, by) in enumerate(row.events or (("", ""),))
    ]


class Screen(Protocol):
    """Where the story is told."""

    def __enter__(self) -> Self:
        """Begin to show bars."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bars away; what was told stays."""

    def tell(self, subject: str, what: str, why: str = "", style: str = PLAIN) -> None:
        """Say what happens, and why it is safe: whole sentences."""

    def show(self, bars: Sequence[Bar]) -> None:
        """Show how the fetches stand."""

    def close(self, rows: Sequence[Row]) -> None:
        """Print the closing table."""

    def note(self, *lines: str, style: str = "") -> None:
        """Print lines that are no step of the story."""
