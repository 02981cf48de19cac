"""Which events a subscriber takes: by type, and by a pattern for the fetch's id (R21).

In a pattern, ``*`` stands for any characters, also for none, and everything else for
itself: ``?`` and ``[`` are letters like others, since ids are free text. A pattern has
1 to 1,024 bytes of printable text; upper and lower case differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from typing_extensions import override

from schemas.errors import ConfigError
from schemas.events import EventType, event_type
from schemas.names import MAX_ID_BYTES

ALL = "*"
_LINE = re.compile(r"(\S+) (.+)")


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The events that a subscriber is owed; by default every event of its scope."""

    types: frozenset[EventType] = frozenset(EventType)
    ids: str = ALL
    """A pattern for the id of the fetch."""

    @classmethod
    def of(cls, types: Iterable[str] | None = None, ids: str = ALL) -> Self:
        """Check what a person wrote; None means events of every type.

        Raises:
            ConfigError: there is no such type, none is named, or ``ids`` is no pattern.
        """
        if isinstance(types, str):
            types = [types]
        chosen = frozenset(EventType if types is None else map(event_type, types))
        if not chosen:
            raise ConfigError(
                "types=[] would leave no event: name one, or leave it out"
            )
        return cls(chosen, _pattern(ids))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` gives.

        Raises:
            ConfigError: it is no filter.
        """
        match = _LINE.fullmatch(text)
        if match is None:
            raise ConfigError(f"{text!r} is no filter of events")
        types = None if match[1] == ALL else match[1].split(",")
        return cls.of(types, match[2])

    @override
    def __str__(self) -> str:
        """The filter as Redis keeps it: types, or ``*``, and the pattern."""
        if self.types == frozenset(EventType):
            return f"{ALL} {self.ids}"
        return f"{','.join(sorted(self.types))} {self.ids}"

    def __bool__(self) -> bool:
        """Whether it excludes anything."""
        return self != EVERYTHING


def _pattern(ids: str) -> str:
    try:
        size = len(ids.encode()) if isinstance(ids, str) else 0
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_ID_BYTES or not ids.isprintable():
        raise ConfigError(
            f"{ids!r} is no pattern for ids: use 1 to {MAX_ID_BYTES} bytes of text "
            "without control characters, in which * stands for any, as in 'ep-*'"
        )
    return re.sub(r"\*+", ALL, ids)


EVERYTHING = EventFilter()
