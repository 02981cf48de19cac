"""Names of saved files: made from URLs alone, never from what a server says."""

from __future__ import annotations

import unicodedata
from urllib.parse import unquote, urlsplit

MAX_BYTES = 120
"""Of a name; leaves room for a number and for the suffix of a draft."""


def safe_name(url: str) -> str:
    """Return a file name for what ``url`` gives: its last segment, made harmless.

    It has no separator, control, invisible or unpaired character, does not start with
    a dot, has at most 120 bytes, and is never empty: the host stands in.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    segment = path.rpartition("/")[2]
    return (
        _harmless(unquote(segment, errors="replace"))
        or _harmless(parts.hostname or "")
        or "download"
    )


def _harmless(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    kept = "".join(
        "_" if char in '/\\:*?"<>|' or unicodedata.category(char)[0] == "C" else char
        for char in text
    )
    return _shortened(kept.strip(" .").lstrip("-"))


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix.encode()) > 16:
        stem, dot, suffix = name, "", ""
    room = MAX_BYTES - len((dot + suffix).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(" .") + dot + suffix
