"""Which icon is shown (BF-DISP-05), and what is an image."""

from __future__ import annotations

import pytest

from schemas.icons import SVG, choose, image_type
from schemas.options import ImageResource


def icon(sizes: str, type: str = "", *, src: str = "") -> ImageResource:
    return ImageResource(src=src or sizes, sizes=sizes, type=type)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["48x48", "96x96", "192x192"], "96x96"),
        (["192x192", "128x128", "512x512"], "128x128"),
        (["16x16", "64x64", "32x32"], "64x64"),
        (["16x16 128x128", "256x256"], "16x16 128x128"),
        (["48x48", "any"], "any"),
        (["ANY", "96x96"], "96x96"),
        (["", "8x8"], "8x8"),
        (["nonsense", "0x0", "01x1"], "01x1"),
        (["96X96"], "96X96"),
        (["96x10", "48x48"], "48x48"),
        ([], None),
    ],
)
def test_the_smallest_that_is_large_enough_is_shown_else_the_largest(
    offered: list[str], chosen: str | None
) -> None:
    """BF-DISP-05: one icon is chosen from icons."""
    found = choose([icon(sizes) for sizes in offered], 96)

    assert (found and found.src) == chosen


def test_types_that_no_browser_shows_are_passed_over() -> None:
    """BF-DISP-05: a type that is left out is any."""
    offered = [
        icon("96x96", "image/x-icon"),
        icon("16x16", "IMAGE/PNG; q=1"),
        icon("96x96", "text/html"),
    ]

    found = choose(offered)

    assert found is not None
    assert found.sizes == "16x16"
    assert choose([icon("96x96", "application/pdf")]) is None


@pytest.mark.parametrize(
    ("named", "data", "type"),
    [
        ("text/html", b"\x89PNG\r\n\x1a\n....", "image/png"),
        ("", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("", b"GIF89a..", "image/gif"),
        ("", b"RIFF....WEBPVP8 ", "image/webp"),
        ("", b"\0\0\0\x1cftypavif\0\0\0\0", "image/avif"),
        ("image/svg+xml; charset=utf-8", b"<?xml?><svg/>", SVG),
        ("image/png", b"<svg/>", ""),
        ("text/html", b"<svg/>", ""),
        ("image/svg+xml", b"<html><script>", ""),
        ("image/png", b"<script>", ""),
        ("image/png", b"", ""),
    ],
)
def test_bytes_tell_what_is_an_image(named: str, data: bytes, type: str) -> None:
    assert image_type(named, data) == type
