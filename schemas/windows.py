"""Hours of the day in which a scope's fetches may transfer (§ Display, BF-DISP-12)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from typing_extensions import override

from schemas.errors import InvalidOptions

_FORM = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)", re.ASCII)
_MINUTE = 60_000
_DAY = 24 * 60 * _MINUTE


@dataclass(frozen=True, slots=True)
class Window:
    """From one minute of each day, by UTC, to another; it may go past midnight."""

    start: int
    end: int
    """The minute before which it ends: 1 to 1440."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``22:00-06:00``.

        Raises:
            InvalidOptions: it is no window, or never open or closed.
        """
        match = _FORM.fullmatch(text.strip())
        if match is not None:
            hour, minute, last_hour, last_minute = map(int, match.groups())
            start, end = 60 * hour + minute, 60 * last_hour + last_minute or 1440
            in_order = minute < 60 and last_minute < 60 and start < 1440
            if in_order and end <= 1440 and start != end and end - start < 1440:
                return cls(start, end)
        raise InvalidOptions(
            f"{text!r} is no window: write the hours of a day by UTC, as 22:00-06:00"
        )

    @override
    def __str__(self) -> str:
        start, end = divmod(self.start, 60), divmod(self.end, 60)
        return f"{start[0]:02}:{start[1]:02}-{end[0]:02}:{end[1]:02}"

    @property
    def minutes(self) -> str:
        """This window as scripts read it."""
        return f"{self.start} {self.end}"

    def closed(self, start: int, end: int) -> int:
        """How many ms between two times it is closed; all in ms since the epoch."""
        return end - start - (self._open_before(end) - self._open_before(start))

    def _open_before(self, time: int) -> int:
        days, at = divmod(time, _DAY)
        start, end = self.start * _MINUTE, self.end * _MINUTE
        spans = [(start, end)] if start < end else [(0, end), (start, _DAY)]
        each_day = sum(last - first for first, last in spans)
        today = sum(max(0, min(at, last) - first) for first, last in spans)
        return days * each_day + today
