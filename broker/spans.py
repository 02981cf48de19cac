"""Which bytes of a file are stored beyond those that are stored without a gap."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator


class Spans:
    """Ranges of positions, each from its start to just before its end, in order.

    Those that overlap or touch are one.
    """

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._spans)

    @property
    def size(self) -> int:
        """Positions in all ranges together."""
        return sum(end - start for start, end in self._spans)

    def add(self, start: int, end: int) -> None:
        """Count these positions in."""
        spans = self._spans
        low = high = bisect_left(spans, start, key=lambda span: span[1])
        while high < len(spans) and spans[high][0] <= end:
            start, end = min(start, spans[high][0]), max(end, spans[high][1])
            high += 1
        spans[low:high] = [(start, end)]

    def reached(self, length: int) -> int:
        """Return how far it goes without a gap from ``length`` on; forget all before.

        Returns ``length`` itself where the next range is still ahead.
        """
        while self._spans and self._spans[0][0] <= length:
            length = max(length, self._spans.pop(0)[1])
        return length
