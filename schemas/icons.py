"""Icons: which one a display shows, and whether bytes are an image (§ Display).

The choice follows the Image Resource specification: images of unknown types are passed
over, and of the others the size decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from schemas.options import ImageResource

SVG = "image/svg+xml"
"""It is text that could hold scripts: whoever serves it, serves it sandboxed."""
TYPES = (
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    SVG,
)
_SIZE = re.compile(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", re.ASCII)
# As the MIME Sniffing standard tells images apart, byte for byte; None is any byte.
_SIGNATURES: tuple[tuple[str, bytes, bytes], ...] = (
    ("image/png", b"\x89PNG\r\n\x1a\n", b""),
    ("image/jpeg", b"\xff\xd8\xff", b""),
    ("image/gif", b"GIF87a", b""),
    ("image/gif", b"GIF89a", b""),
    ("image/webp", b"RIFF", b"WEBPVP"),
)


def choose(icons: Iterable[ImageResource], wanted: int = 96) -> ImageResource | None:
    """Return the icon to show on ``wanted`` by ``wanted`` pixels, or None.

    The smallest that is large enough, else the largest; one that says nothing about
    its size comes last. Of equals it is the one that was named last.
    """
    best: tuple[tuple[int, int], ImageResource] | None = None
    for icon in icons:
        kind = icon.type.partition(";")[0].strip().lower()
        if kind and kind not in TYPES:
            continue
        rank = _rank(icon.sizes, wanted)
        if best is None or rank <= best[0]:
            best = rank, icon
    return best[1] if best else None


def _rank(sizes: str, wanted: int) -> tuple[int, int]:
    """How well an icon fits; less is better."""
    found = []
    for word in sizes.lower().split():
        if word == "any":
            return 0, 0
        if match := _SIZE.fullmatch(word):
            found.append(min(int(match[1]), int(match[2])))
    if not found:
        return 2, 0
    return min((0, size - wanted) if size >= wanted else (1, -size) for size in found)


def image_type(content_type: str, data: bytes) -> str:
    """Return the type of an image; empty if it is none of ``TYPES``.

    Bytes decide, whatever the origin calls them; of text, what it is called.
    """
    for known, start, later in _SIGNATURES:
        if data.startswith(start) and data[8:].startswith(later):
            return known
    if data[4:8] == b"ftyp" and b"avif" in data[8:64]:
        return "image/avif"
    named = content_type.partition(";")[0].strip().lower()
    is_svg = named == SVG and b"<svg" in data[:4096] and b"\0" not in data
    return SVG if is_svg else ""
