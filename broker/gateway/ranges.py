"""Which bytes a request asks for, and under which conditions (RFC 9110 §§ 13, 14)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from broker.gateway.refusals import RangeNotSatisfiable

_SPAN = re.compile(r"bytes=\s*(\d{1,19})?-(\d{1,19})?\s*", re.ASCII)
_TAG = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a body from ``start`` to before ``end``."""

    start: int
    end: int

    def content_range(self, length: int) -> str:
        """The header that goes with them."""
        return f"bytes {self.start}-{self.end - 1}/{length}"


def span_of(header: str | None, length: int) -> Span | None:
    """Return the bytes that are asked for, or None for all.

    Of several ranges, units other than bytes and what has no meaning, none is served,
    as is allowed: the answer is the whole.

    Raises:
        RangeNotSatisfiable: there are no such bytes.
    """
    match = _SPAN.fullmatch(header or "")
    first, last = match.groups() if match else (None, None)
    if first is None and last is None:
        return None
    if first is None:
        start, end = max(0, length - int(last or 0)), length
    else:
        start, end = int(first), min(length, int(last) + 1 if last else length)
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiable(
            f"Range: {header!r} asks for no byte of the {length} that there are",
            {"Content-Range": f"bytes */{length}"},
        )
    return Span(start, end)


def is_known(header: str | None, tags: Sequence[str]) -> bool:
    """Whether an ``If-None-Match`` names the body (weak comparison)."""
    if header is None or not tags:
        return False
    return header.strip() == "*" or any(tag in tags for tag in _TAG.findall(header))


def still_holds(header: str | None, tags: Sequence[str]) -> bool:
    """Whether an ``If-Range`` lets a range be served (strong comparison).

    A date never does: of two versions in one second it cannot tell which is meant.
    """
    return header is None or header.strip() in tags
