"""Sizes and durations as people write and read them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timedelta

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.ASCII | re.IGNORECASE)
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}


def parse_duration(text: str) -> timedelta:
    """Read a duration: ``90`` (seconds), ``90s``, ``10m``, ``1.5h``, ``7d``.

    Raises:
        ValueError: it is no duration; the message shows it.
    """
    match = _DURATION.fullmatch(text.strip())
    try:
        if match:
            return float(match[1]) * _UNITS[(match[2] or "s").lower()]
    except OverflowError:
        pass
    raise ValueError(f"{text!r} is no duration: write seconds, or as 90s, 10m, 2h, 7d")


def parse_moment(text: str) -> datetime | timedelta:
    """Read a time: ISO 8601, in local time unless it says; or how long ago, as ``2h``.

    Raises:
        ValueError: it is neither; the message shows it.
    """
    with suppress(ValueError):
        return parse_duration(text)
    with suppress(ValueError):
        return datetime.fromisoformat(text.strip()).astimezone()
    raise ValueError(
        f"{text!r} is no time: write how long ago, as 90s, 10m, 2h, 7d, or ISO 8601, "
        "as 2026-11-22T19:00Z"
    )


def seconds(duration: timedelta | None) -> float | None:
    """The duration as asyncio's timeouts take it."""
    return None if duration is None else duration.total_seconds()
