"""Which bytes of a large file each of several streams brings.

The main stream is the record's own exchange: it goes on from the bytes that are stored
without a gap. Side streams bring segments ahead of it, the nearest first, so that what
can be read, and what outlives a crash, grows all along. Segments become smaller towards
the end of the file, where no stream should be left waiting for a large one.

Nothing is done here: whoever has the streams tells what became of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LARGEST = 8
"""Least sizes in the largest segment."""

Range = tuple[int, int]


@dataclass(slots=True, eq=False)
class Segment:
    """What one side stream is to bring: from ``start`` to just before ``end``."""

    start: int
    end: int
    at: int
    """The position of the next byte to arrive."""
    proved: bool = False
    """Whether an answer has proved that it brings these bytes of this version (R7)."""


class Plan:
    """The segments of one file of ``length`` bytes, for as many streams at most.

    ``edge`` is always the number of bytes stored without a gap, and ``stored`` are the
    ranges beyond it, in order.
    """

    def __init__(self, length: int, streams: int, least: int) -> None:
        """``least`` is the smallest segment that is worth a stream."""
        self.length = length
        self.active: list[Segment] = []
        """Those for which a stream is under way."""
        self._streams = streams
        self._least = least

    def begin(
        self, edge: int, stored: Iterable[Range], *, main: bool
    ) -> Segment | None:
        """Choose a segment for a free side stream; None if there is nothing for it.

        With ``main`` the main stream goes on from ``edge``, and gets a share as well.
        """
        gaps = [(start, end) for start, end in self._gaps(edge, stored) if start < end]
        left = sum(end - start for start, end in gaps)
        share = min(left // (2 * self._streams), LARGEST * self._least)
        share = max(share, self._least)
        if main:
            near = edge + share
            gaps = [
                (max(start, near), end)
                for start, end in gaps
                if start >= near or end - near >= self._least
            ]
        if not gaps:
            return self._split(edge)
        start, end = gaps[0]
        # No rest that is not worth a stream of its own.
        if end - start >= share + self._least:
            end = start + share
        return self._add(start, end)

    def end(self, segment: Segment) -> None:
        """A stream is over; what it did not bring is a gap again."""
        self.active.remove(segment)

    def bound(self, edge: int, stored: Iterable[Range]) -> int:
        """Return where the main stream arrives at bytes that are stored, or promised.

        What is only asked for does not stop it.
        """
        proved = (segment.start for segment in self.active if segment.proved)
        starts = [start for start, _ in stored] + list(proved)
        return min((start for start in starts if start >= edge), default=self.length)

    def _gaps(self, edge: int, stored: Iterable[Range]) -> Iterator[Range]:
        """Yield what nobody has brought or is to bring, in order; some are empty."""
        asked = [(segment.start, segment.end) for segment in self.active]
        for start, end in sorted([*stored, *asked]):
            yield edge, start
            edge = max(edge, end)
        yield edge, self.length

    def _split(self, edge: int) -> Segment | None:
        """Take over the second half of what a stream has most of.

        What the main stream has passed, before an answer proved it, is no one's.
        """

        def left(segment: Segment) -> int:
            return segment.end - max(segment.at, edge)

        longest = max(self.active, key=left, default=None)
        if longest is None or left(longest) < 2 * self._least:
            return None
        middle = longest.end - left(longest) // 2
        end, longest.end = longest.end, middle
        return self._add(middle, end)

    def _add(self, start: int, end: int) -> Segment:
        segment = Segment(start, end, start)
        self.active.append(segment)
        return segment
