"""Numbers of bytes as people write them."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", re.ASCII | re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_size(text: str) -> int:
    """Read bytes: ``1500``, ``10MB`` (10,000,000), ``60MiB`` (62,914,560), ``1.5G``.

    Raises:
        ValueError: it is no size; the message shows it.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no size: write bytes, or as 10MB or 60MiB")
    number, prefix, binary = match.groups()
    factor: int = (1024 if binary else 1000) ** _POWERS[prefix.lower()]
    return round(float(number) * factor) if "." in number else int(number) * factor
