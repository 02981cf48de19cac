"""Values as people read them on a page; templates use these as filters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from broker.quantities import shown_duration, shown_size

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float) -> str:
    """Bytes in the unit that people read: ``60.0 MiB``."""
    return shown_size(count)


def of(part: int, whole: int) -> str:
    """A part of so many bytes: ``8.8 of 60.1 MiB``."""
    small, large = size(part), size(whole)
    number, unit = small.rsplit(" ", 1)
    return f"{number if large.endswith(unit) else small} of {large}"


def duration(seconds: float) -> str:
    """Seconds in their two largest units: ``1 h 5 min``; rounded down."""
    return shown_duration(timedelta(seconds=seconds))


def roughly(seconds: float) -> str:
    """Seconds in their largest unit, for what is not known exactly: ``12 min``."""
    for length, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def ago(milliseconds: int, now: int) -> str:
    """How long before ``now`` a time was, in its largest unit: ``3 min ago``."""
    seconds = (now - milliseconds) // 1000
    if seconds < 1:
        return "just now"
    return f"{roughly(seconds)} ago"


def moment(milliseconds: int) -> str:
    """A time in full, UTC: ``2026-11-22 19:04:05 UTC``."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def count(number: int) -> str:
    """A number with its thousands apart: ``1,204``."""
    return f"{number:,}"


def plural(number: int, noun: str, many: str = "") -> str:
    """``1 record``, ``1,204 records``."""
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"


def linkable(url: str) -> bool:
    """Whether a page may link to it: only http and https, never script."""
    try:
        return urlsplit(url.strip()).scheme.lower() in ("http", "https")
    except ValueError:
        return False


def initial(text: str) -> str:
    """The letter that stands for a fetch without an icon."""
    return next((char.upper() for char in text if char.isalnum()), "•")


def hue(text: str) -> int:
    """One of eight colours, always the same for the same text."""
    return sum(text.encode(errors="replace")) % 8
