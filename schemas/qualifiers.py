"""Text in which a person asks for things: words, and values of named qualifiers.

    reason:bad-status id:ep-* q:"two words" word

Quotes keep blanks together; within them a backslash takes the next character as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from schemas.errors import InvalidFilter

MAX_BYTES = 4096
"""Of such a text."""

_PART = re.compile(r'(?:([A-Za-z_]+):)?("(?:[^"\\]|\\.)*"|[^\s"]+)(?:\s+|$)', re.DOTALL)
_PLAIN = re.compile(r'[^\s":\\]+')
_SHOWN = 60


def read_qualifiers(text: str, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each qualifier with its value; that of a word by itself is the last name.

    Raises:
        InvalidFilter: a part cannot be understood; the message shows it.
    """
    text, at = text.strip(), 0
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise InvalidFilter(f"a filter has at most {MAX_BYTES} bytes: {shown(text)}")
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise InvalidFilter(
                f"{shown(text[at:])} cannot be read: quotes stand around a whole value "
                'and are closed, as in q:"two words"'
            )
        qualifier, value = part.groups()
        if qualifier is None and value.endswith(":"):
            raise InvalidFilter(f"{shown(value)} has no value")
        if qualifier is not None and qualifier not in names:
            raise InvalidFilter(
                f"{shown(part[0].strip())}: there is no {qualifier!r} to ask for, but "
                f"{', '.join(names)}; quote what is only text"
            )
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        yield qualifier or names[-1], value
        at = part.end()


def write_qualifiers(parts: Sequence[tuple[str, str]]) -> str:
    """The text that ``read_qualifiers`` reads as these parts."""
    return " ".join(f"{name}:{_quoted(value)}" for name, value in parts)


def shown(text: str) -> str:
    """The offending part, as an error shows it."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def _quoted(value: str) -> str:
    if _PLAIN.fullmatch(value):
        return value
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'"{escaped}"'
